package difftest

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Case is a stack of layers and what is done to it. It can be stored as JSON and
// run again.
type Case struct {
	// Seed is where a generated case came from.
	Seed uint64 `json:"seed,omitempty"`
	// Variant names the mount options, see Variants.
	Variant string `json:"variant"`
	// Layers are the lower layers as text for Build, top first.
	Layers []string `json:"layers"`
	// Setup is done on kernel overlayfs over Layers; the upper that this gives
	// is one more lower layer on top, with marks as the kernel makes them.
	Setup []Op `json:"setup,omitempty"`
	// Ops are done on both targets.
	Ops []Op `json:"ops"`
}

// Variant is a set of mount options under which both targets must agree.
type Variant struct {
	Name    string
	Kernel  string // options of kernel overlayfs
	Subject string // options of the target under test
	// NoLinks keeps hard links out of lower layers. Without an index the kernel
	// breaks them at the copy-up, which it does at open and unionfs at the
	// first write.
	NoLinks bool
	// LaxTimes accepts a time where the kernel has the present: it copies up the
	// data of a metadata-only copy at open and loses the time by that.
	LaxTimes bool
	// Devices puts every second lower layer on a filesystem of its own.
	Devices bool
	// LaxLinks does not compare which names of special files and symlinks are
	// one inode: the kernel finds no place for its marks on them.
	LaxLinks bool
}

// Variants are the option sets of the differential test.
var Variants = []Variant{
	{
		Name:    "default",
		Kernel:  "redirect_dir=on,index=on,xino=on",
		Subject: "redirect_dir=on,index=on,xino=on",
	},
	{
		Name:    "plain",
		Kernel:  "redirect_dir=off,index=off",
		Subject: "redirect_dir=off,index=off",
		NoLinks: true,
	},
	{
		Name:     "metacopy",
		Kernel:   "redirect_dir=on,index=on,metacopy=on",
		Subject:  "redirect_dir=on,index=on,metacopy=on",
		LaxTimes: true,
	},
	{
		Name:    "devices",
		Kernel:  "redirect_dir=on,index=on,xino=on",
		Subject: "redirect_dir=on,index=on,xino=on",
		Devices: true,
	},
	{
		// Not index=on: the kernel cannot mount again where a hard-linked
		// device was unlinked, since devices take no user.* attributes.
		Name:    "userxattr",
		Kernel:  "userxattr,redirect_dir=nofollow,index=off",
		Subject: "userxattr,redirect_dir=off,index=off",
		NoLinks: true, LaxLinks: true,
	},
}

// FindVariant returns the variant of that name.
func FindVariant(name string) (Variant, error) {
	for _, v := range Variants {
		if v.Name == name {
			return v, nil
		}
	}
	return Variant{}, fmt.Errorf("find variant %q: there is none", name)
}

// LoadCase reads a case from a JSON file.
func LoadCase(file string) (Case, error) {
	var c Case
	b, err := os.ReadFile(file)
	if err != nil {
		return c, fmt.Errorf("load case: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("load case %s: %w", file, err)
	}
	return c, nil
}

// Save writes the case to a JSON file.
func (c Case) Save(file string) error {
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return fmt.Errorf("save case: %w", err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("save case: %w", err)
	}
	return nil
}

// String is the case as one would tell it: layers, then operations.
func (c Case) String() string {
	var b strings.Builder
	for i, l := range c.Layers {
		fmt.Fprintf(&b, "layer %d:\n%s\n", i, l)
	}
	for _, part := range []struct {
		name string
		ops  []Op
	}{{"setup", c.Setup}, {"ops", c.Ops}} {
		if len(part.ops) > 0 {
			fmt.Fprintf(&b, "%s:\n", part.name)
		}
		for _, op := range part.ops {
			fmt.Fprintf(&b, "\t%s\n", op)
		}
	}
	return b.String()
}

// Source gives the operations of a case one by one.
type Source interface {
	// Next is the next operation; false at the end.
	Next() (Op, bool)
	// Saw tells what the oracle answered, so that a source can follow the
	// state of the tree.
	Saw(op Op, res Result)
}

// list is a Source of given operations.
type list struct{ ops []Op }

func (l *list) Next() (Op, bool) {
	if len(l.ops) == 0 {
		return Op{}, false
	}
	op := l.ops[0]
	l.ops = l.ops[1:]
	return op, true
}

func (l *list) Saw(Op, Result) {}
