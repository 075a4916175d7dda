package difftest

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
)

// Generator makes random layers and operations from a seed: the same seed gives
// the same case as long as the oracle answers the same.
type Generator struct {
	r     *rand.Rand
	m     *model
	left  int
	queue []Op // operations that follow the last one
	setup bool // no handles are kept and nothing is only looked at
	links bool // lower layers have hard links
}

// long is a name of the longest length.
var long = strings.Repeat("n", 251) + ".txt"

// names are the names that get reused, so that operations meet.
var names = []string{"a", "b", "c", "d", "e", "sub", ".wh.a", ".hid", "name with space", "\xff\xfe", long}

// NewGenerator returns a generator for the given seed and variant.
func NewGenerator(seed uint64, v Variant) *Generator {
	return &Generator{links: !v.NoLinks, r: rand.New(rand.NewPCG(seed, 0x756e696f6e6673)), m: newModel()}
}

// Layers makes the layers of a case, top first, and follows them.
func (g *Generator) Layers() []string {
	layers := make([]string, 1+g.r.IntN(3))
	for i := len(layers) - 1; i >= 0; i-- {
		layers[i] = g.layer(i < len(layers)-1)
	}
	g.m.load(layers)
	return layers
}

// layer makes one layer; over tells that there are layers below it.
func (g *Generator) layer(over bool) string {
	r := g.r
	var b strings.Builder
	own := func() string {
		if r.IntN(3) == 0 {
			return fmt.Sprintf(" uid=1000 gid=%d", []int{1000, 2000, 0}[r.IntN(3)])
		}
		return ""
	}
	dirs := []string{"."}
	fmt.Fprintf(&b, "dir . mode=%s\n", []string{"0755", "0777", "1777", "2775"}[r.IntN(4)])
	for range 2 + r.IntN(4) {
		d := filepath.Join(dirs[r.IntN(len(dirs))], []string{"a", "b", "c", "d", "sub"}[r.IntN(5)])
		if len(dirs) > 1 && strings.Count(d, "/") > 4 {
			continue
		}
		dirs = append(dirs, d)
		fmt.Fprintf(&b, "dir %s mode=%s%s\n", d, []string{"0755", "0777", "1777", "2775", "0700"}[r.IntN(5)], own())
	}
	used := map[string]bool{}
	for _, d := range dirs {
		used[d] = true
	}
	free := func() string {
		for {
			n := []string{"f", "g", "h", "e", "x", "y", "z", long}[r.IntN(8)]
			p := filepath.Join(dirs[r.IntN(len(dirs))], n)
			if used[p] {
				p += fmt.Sprint(r.IntN(50))
			}
			if !used[p] && len(filepath.Base(p)) < 256 {
				used[p] = true
				return p
			}
		}
	}
	files := []string{}
	for range 3 + r.IntN(6) {
		p := free()
		files = append(files, p)
		g.fixtureFile(&b, p, own())
	}
	for range r.IntN(3) {
		if !g.links {
			break
		}
		fmt.Fprintf(&b, "link %s %s\n", free(), files[r.IntN(len(files))])
	}
	for range r.IntN(4) {
		fmt.Fprintf(&b, "%s%s\n", fmt.Sprintf([]string{
			"symlink %s f", "symlink %s a", "symlink %s nowhere mtime=-5.25", "fifo %s", "socket %s", "chr %s 1:3", "blk %s 240:99",
		}[r.IntN(7)], free()), own())
	}
	if over {
		for range r.IntN(3) {
			fmt.Fprintf(&b, "whiteout %s\n", free())
		}
	}
	return b.String()
}

func (g *Generator) fixtureFile(b *strings.Builder, p, own string) {
	r := g.r
	mode := []string{"0644", "0600", "0666", "0444", "0755", "4755", "2755", "6777", "0000"}[r.IntN(9)]
	switch r.IntN(5) {
	case 0:
		fmt.Fprintf(b, "file %s size=%d mode=%s%s\ndata %s %d 5000 xyz\n", p, 1<<16+r.IntN(1<<16), mode, own, p, r.IntN(1<<17))
	case 1:
		fmt.Fprintf(b, "file %s mode=%s%s mtime=-%d.000000001\ndata %s 0 %d text\n", p, mode, own, r.IntN(1e9), p, 1+r.IntN(20000))
	default:
		fmt.Fprintf(b, "file %s content-%d mode=%s%s\n", p, r.IntN(100), mode, own)
	}
	switch r.IntN(6) {
	case 0:
		fmt.Fprintf(b, "xattr %s user.n val%d\n", p, r.IntN(9))
	case 1:
		fmt.Fprintf(b, "xattr %s security.capability hex:%s\n", p, capability)
	case 2:
		fmt.Fprintf(b, "xattr %s trusted.t %s\n", p, "t")
	}
}

// capability is cap_net_raw=p as a security.capability value of revision 2.
const capability = "0100000200200000000000000000000000000000"

// acls are POSIX ACL values: minimal entries with one named user, as
// <linux/posix_acl_xattr.h> has them.
var acls = []string{
	"0200000001000600ffffffff02000700e803000004000400ffffffff10000700ffffffff20000400ffffffff",
	"0200000001000700ffffffff02000500d007000004000500ffffffff10000500ffffffff20000000ffffffff",
	"0200000001000600ffffffff04000400ffffffff20000400ffffffff",
	"0200",
}

// Begin starts a run of n operations; a setup run only changes the tree.
func (g *Generator) Begin(n int, setup bool) { g.left, g.setup, g.queue = n, setup, nil }

// Next is the next operation.
func (g *Generator) Next() (Op, bool) {
	if len(g.queue) > 0 {
		op := g.queue[0]
		g.queue = g.queue[1:]
		return op, true
	}
	if g.left <= 0 {
		return Op{}, false
	}
	g.left--
	op := g.pick()
	op.Proc = []int{0, 0, 0, 1, 2, 2}[g.r.IntN(6)]
	if strings.HasSuffix(op.Call, "removexattr") && op.Name == "system.posix_acl_access" {
		// When somebody outside the group removes an ACL, the kernel's overlayfs
		// drops the set-group-ID bit too (fs/overlayfs/inode.c:
		// ovl_set_or_remove_acl); ext4 does not, and FUSE does not tell.
		op.Proc = 0
	}
	if op.Name == "security.capability" && len(g.queue) > 0 && op.Proc == 2 {
		op.Proc = 0 // before a mapping, see pickMapping: it must succeed
	}
	op.Look = g.r.IntN(2) == 0 && op.Path != ""
	for i := range g.queue {
		g.queue[i].Proc = op.Proc
	}
	return op, true
}

// Saw follows what succeeded.
func (g *Generator) Saw(op Op, res Result) {
	if res.Err == "" {
		g.m.update(op)
	}
}

// fresh is a path that may or may not exist, in a directory that should.
func (g *Generator) fresh() string {
	return filepath.Join(g.m.dir(g.r), names[g.r.IntN(len(names))])
}

// any is mostly a path that should exist.
func (g *Generator) any(types string) string {
	switch g.r.IntN(12) {
	case 0:
		return g.fresh()
	case 1:
		return g.m.some(g.r, "")
	}
	return g.m.some(g.r, types)
}

func (g *Generator) slot() int { return g.r.IntN(4) }

func (g *Generator) mode() uint32 {
	return []uint32{0o644, 0o600, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1777, 0o2775, 0, 0o444}[g.r.IntN(11)]
}

func (g *Generator) oneOf(s ...string) string { return s[g.r.IntN(len(s))] }

func (g *Generator) offset() int64 {
	return []int64{0, 0, 1, 5, 100, 4095, 4096, 8192, 10000, 65536, 70000, 131072}[g.r.IntN(12)]
}

func (g *Generator) length() int64 {
	return []int64{1, 3, 10, 100, 4096, 5000, 20000, 70000}[g.r.IntN(8)]
}
