package mountopt

import (
	"errors"
	"fmt"
	"strings"
)

// MaxLayers is how many lower layers a mount may have, as in the kernel
// (fs/overlayfs/params.h: OVL_MAX_STACK).
const MaxLayers = 500

// Values of RedirectDir.
const (
	RedirectOn     = "on"     // rename directories by a redirect mark
	RedirectFollow = "follow" // follow the marks that are there, make none
	RedirectOff    = "off"    // make none; such a rename is EXDEV
)

// Options is what an option string says. The zero value says nothing. Strings
// that are empty and pointers that are nil were not given.
type Options struct {
	Lowers []string // lowerdir and lowerdir+, top first
	Upper  string   // upperdir
	Work   string   // workdir

	RedirectDir string // RedirectOn, RedirectFollow or RedirectOff
	Metacopy    *bool
	Index       *bool
	Xino        string // on, auto or off

	UserXattr bool
	Volatile  bool
	ReadOnly  bool // ro given, and no rw after it
	NoACL     bool
	IO        string // auto, cached or passthrough
	Transport string // auto, uring, dev or gofuse
	Spin      string // auto, off or microseconds
	Writeback *bool
	Debug     bool

	AllowOther         bool
	DefaultPermissions bool
	FSName             string // fsname: what the source column says

	// UIDs and GIDs map ids (uidmapping, gidmapping); SquashUID and SquashGID show
	// one id for all objects (squash_to_uid, squash_to_gid, squash_to_root).
	UIDs, GIDs           []IDRange
	SquashUID, SquashGID *uint32
	// XattrPermissions is where owners and modes are kept: 1 or 2 as in
	// fuse-overlayfs, 0 for nowhere; nil was not given.
	XattrPermissions *int
	Owner            string // owner: image, me or UID:GID

	// Generic are the options for the kernel's mount flags in canonical form,
	// one of each pair: nosuid, noatime and so on.
	Generic []string
	// Unsupported are options of overlayfs or fuse-overlayfs that unionfs knows
	// and does not have, as given.
	Unsupported []string
	// Unknown are all others, as given.
	Unknown []string
}

// Parse reads option strings in order, as if they were joined by commas. Its
// errors are mistakes that no mode tolerates: broken quotes, values that an
// option cannot have, contradictions, too many layers. Options that are unknown
// or unsupported are only collected; see Problems.
func Parse(optionStrings ...string) (Options, error) {
	var p parser
	for _, s := range optionStrings {
		list, err := lex(s)
		if err != nil {
			return Options{}, err
		}
		for _, o := range list {
			if err := p.add(o); err != nil {
				return Options{}, err
			}
		}
	}
	if p.squashRoot {
		root := uint32(0)
		if p.SquashUID == nil {
			p.SquashUID = &root
		}
		if p.SquashGID == nil {
			p.SquashGID = &root
		}
	}
	if err := p.CheckOwner(); err != nil {
		return Options{}, err
	}
	if err := p.check(); err != nil {
		return Options{}, err
	}
	return p.Options, nil
}

// check looks at the options together.
func (o *Options) check() error {
	if len(o.Lowers) > MaxLayers {
		return &TooManyError{Layers: len(o.Lowers)}
	}
	if o.Metacopy != nil && *o.Metacopy && o.RedirectDir != "" && o.RedirectDir != RedirectOn {
		// fs/overlayfs/params.c: ovl_fs_params_verify.
		return fmt.Errorf("options metacopy=on and redirect_dir=%s contradict each other", o.RedirectDir)
	}
	return nil
}

// TooManyError is a stack of more than MaxLayers layers.
type TooManyError struct{ Layers int }

// Error says how many there are.
func (e *TooManyError) Error() string {
	return fmt.Sprintf("%d layers are too many, %d is the most; merge some of them first", e.Layers, MaxLayers)
}

// Problems is one error for each option that is unknown or unsupported. A
// strict caller fails with them, a lenient one prints them.
func (o *Options) Problems() []error {
	var out []error
	for _, text := range o.Unsupported {
		out = append(out, fmt.Errorf("option %q is known but not supported", text))
	}
	for _, text := range o.Unknown {
		name, _, _ := strings.Cut(text, "=")
		if near, ok := Nearest(name, knownNames()); ok && near != name {
			out = append(out, fmt.Errorf("unknown option %q, did you mean %q?", text, near))
			continue
		}
		out = append(out, fmt.Errorf("unknown option %q", text))
	}
	return out
}

// Strict is nil when every option is known and supported.
func (o *Options) Strict() error { return errors.Join(o.Problems()...) }

// String formats the options so that Parse reads the same again, in a fixed
// order.
func (o Options) String() string {
	var f formatter
	if len(o.Lowers) > 0 {
		f.raw("lowerdir", JoinLayers(o.Lowers))
	}
	f.value("upperdir", o.Upper)
	f.value("workdir", o.Work)
	f.value("redirect_dir", o.RedirectDir)
	f.onOff("metacopy", o.Metacopy)
	f.onOff("index", o.Index)
	f.value("xino", o.Xino)
	f.flag("userxattr", o.UserXattr)
	f.flag("volatile", o.Volatile)
	f.flag("ro", o.ReadOnly)
	f.flag("noacl", o.NoACL)
	f.value("io", o.IO)
	f.value("transport", o.Transport)
	f.value("spin", o.Spin)
	f.onOff("writeback", o.Writeback)
	f.flag("debug", o.Debug)
	f.flag("allow_other", o.AllowOther)
	f.flag("default_permissions", o.DefaultPermissions)
	f.value("fsname", o.FSName)
	f.owners(&o)
	f.list = append(f.list, o.Generic...)
	for _, text := range append(append([]string(nil), o.Unsupported...), o.Unknown...) {
		name, value, has := strings.Cut(text, "=")
		if has {
			f.raw(name, escape(value, ","))
		} else {
			f.list = append(f.list, name)
		}
	}
	return strings.Join(f.list, ",")
}

// formatter collects the elements of an option string.
type formatter struct{ list []string }

func (f *formatter) raw(name, value string) { f.list = append(f.list, name+"="+value) }

func (f *formatter) value(name, value string) {
	if value != "" {
		f.raw(name, escape(value, ","))
	}
}

func (f *formatter) flag(name string, set bool) {
	if set {
		f.list = append(f.list, name)
	}
}

func (f *formatter) onOff(name string, v *bool) {
	switch {
	case v == nil:
	case *v:
		f.raw(name, "on")
	default:
		f.raw(name, "off")
	}
}
