package mountopt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parser collects options.
type parser struct {
	Options
	plus       bool // a lowerdir+ was seen
	squashRoot bool // a squash_to_root was seen
}

// handler takes one option of a known name.
type handler func(p *parser, o option) error

// handlers has every option that means something here.
var handlers = map[string]handler{
	"lowerdir":            (*parser).lowerdir,
	"lowerdir+":           (*parser).lowerdirPlus,
	"upperdir":            path(func(p *parser) *string { return &p.Upper }),
	"workdir":             path(func(p *parser) *string { return &p.Work }),
	"redirect_dir":        (*parser).redirectDir,
	"metacopy":            onOff(func(p *parser) **bool { return &p.Metacopy }),
	"index":               onOff(func(p *parser) **bool { return &p.Index }),
	"xino":                oneOf(func(p *parser) *string { return &p.Xino }, "on", "auto", "off"),
	"io":                  oneOf(func(p *parser) *string { return &p.IO }, "auto", "cached", "passthrough"),
	"transport":           oneOf(func(p *parser) *string { return &p.Transport }, "auto", "uring", "dev", "gofuse"),
	"spin":                (*parser).spin,
	"writeback":           (*parser).writeback,
	"userxattr":           flag(func(p *parser) { p.UserXattr = true }),
	"volatile":            flag(func(p *parser) { p.Volatile = true }),
	"noacl":               flag(func(p *parser) { p.NoACL = true }),
	"ro":                  flag(func(p *parser) { p.ReadOnly = true }),
	"rw":                  flag(func(p *parser) { p.ReadOnly = false }),
	"debug":               flag(func(p *parser) { p.Debug = true }),
	"allow_other":         flag(func(p *parser) { p.AllowOther = true }),
	"default_permissions": flag(func(p *parser) { p.DefaultPermissions = true }),
	"uidmapping":          idMap(func(p *parser) *[]IDRange { return &p.UIDs }),
	"gidmapping":          idMap(func(p *parser) *[]IDRange { return &p.GIDs }),
	"squash_to_root":      flag((*parser).squashToRoot),
	"squash_to_uid":       id(func(p *parser) **uint32 { return &p.SquashUID }),
	"squash_to_gid":       id(func(p *parser) **uint32 { return &p.SquashGID }),
	"xattr_permissions":   (*parser).xattrPermissions,
	"owner":               (*parser).owner,
	"fsname":              path(func(p *parser) *string { return &p.FSName }),
	"remount":             other, "bind": other, "rbind": other, "move": other,
}

// generic groups the options that become mount flags; of a group the last one
// given counts.
var generic = [][]string{
	{"nosuid", "suid"},
	{"nodev", "dev"},
	{"noexec", "exec"},
	{"noatime", "relatime", "strictatime", "atime"},
	{"nodiratime", "diratime"},
	{"sync", "async"},
	{"dirsync"},
}

// ignored are options for mount(8) and for those who call it: they are done with
// before a filesystem sees them, or ask for what is so anyway.
var ignored = []string{
	"defaults", "auto", "noauto", "user", "nouser", "users", "group", "_netdev", "nofail", "comment",
	"private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable",
	"silent", "loud", "norelatime", "nolazytime", "nomand", "noiversion", "nostrictatime",
	"xattr", "user_xattr", "acl",
	"threaded", "timeout", "fast_ino", "fast_ino_check", "kernel_cache", "max_write", "splice_read", "splice_write",
	"splice_move", "subtype",
}

// unsupported are options of overlayfs and of fuse-overlayfs (src/config.rs)
// that would change what the mount shows or does.
var unsupported = []string{
	"datadir+", "verity", "nfs_export", "uuid", "override_creds", "nooverride_creds",
	"fsync", "noxattrs", "static_nlink", "ino32_t", "plugins",
	"context", "fscontext", "defcontext", "rootcontext",
	"allow_root", "auto_unmount", "lazytime", "iversion", "mand", "nosymfollow",
}

// knownNames is every name that a mistyped option may have meant.
func knownNames() []string {
	var out []string
	for name := range handlers {
		out = append(out, name)
	}
	for _, group := range generic {
		out = append(out, group...)
	}
	out = append(out, ignored...)
	out = append(out, unsupported...)
	slices.Sort(out)
	return out
}

// add takes one option.
func (p *parser) add(o option) error {
	if h, ok := handlers[o.name]; ok {
		return h(p, o)
	}
	for _, group := range generic {
		if slices.Contains(group, o.name) && !o.hasValue {
			p.setGeneric(group, o.name)
			return nil
		}
	}
	if slices.Contains(ignored, o.name) || strings.HasPrefix(o.name, "x-") || strings.HasPrefix(o.name, "X-") {
		return nil
	}
	if slices.Contains(unsupported, o.name) {
		if !isDefault(o) {
			p.Unsupported = append(p.Unsupported, o.text())
		}
		return nil
	}
	p.Unknown = append(p.Unknown, o.text())
	return nil
}

// isDefault tells whether an unsupported option asks for what is so anyway.
func isDefault(o option) bool {
	switch o.name + "=" + o.value {
	case "verity=off", "nfs_export=off", "fsync=1":
		return o.hasValue
	}
	return false
}

// setGeneric makes name the member of its group that counts.
func (p *parser) setGeneric(group []string, name string) {
	p.Generic = slices.DeleteFunc(p.Generic, func(s string) bool { return slices.Contains(group, s) })
	p.Generic = append(p.Generic, name)
}

func (p *parser) lowerdir(o option) error {
	if p.plus {
		return fmt.Errorf("option lowerdir cannot follow lowerdir+")
	}
	if !o.hasValue || o.value == "" {
		return fmt.Errorf("option lowerdir needs a list of layers")
	}
	layers := SplitLayers(o.value)
	if slices.Contains(layers, "") {
		return fmt.Errorf("option lowerdir has an empty layer (data-only layers after :: are not supported)")
	}
	p.Lowers = layers
	return nil
}

func (p *parser) lowerdirPlus(o option) error {
	if !o.hasValue || o.value == "" {
		return fmt.Errorf("option lowerdir+ needs a layer")
	}
	p.plus = true
	p.Lowers = append(p.Lowers, Unescape(o.value))
	return nil
}

func (p *parser) redirectDir(o option) error {
	switch o.value {
	case RedirectOn, RedirectFollow, RedirectOff:
		p.RedirectDir = o.value
		return nil
	case "nofollow":
		p.Unsupported = append(p.Unsupported, o.text())
		p.RedirectDir = RedirectOff
		return nil
	}
	return badValue(o, "on", "follow", "nofollow", "off")
}

// maxSpin is the longest time that spin takes, in microseconds.
const maxSpin = 10000

func (p *parser) spin(o option) error {
	if n, err := strconv.Atoi(o.value); o.value != "auto" && o.value != "off" && (err != nil || n < 0 || n > maxSpin) {
		return badValue(o, "auto", "off", "a number of microseconds up to "+strconv.Itoa(maxSpin))
	}
	p.Spin = o.value
	return nil
}

// path handles an option whose value is any text but the empty one.
func path(field func(*parser) *string) handler {
	return func(p *parser, o option) error {
		if o.value == "" {
			return fmt.Errorf("option %s needs a value", o.name)
		}
		*field(p) = Unescape(o.value)
		return nil
	}
}

// other refuses what asks for something else than a new mount.
func other(_ *parser, o option) error {
	return fmt.Errorf("option %s: a mount of unionfs cannot be changed; unmount it and mount again", o.name)
}

// oneOf handles an option with a choice of values.
func oneOf(field func(*parser) *string, values ...string) handler {
	return func(p *parser, o option) error {
		if !slices.Contains(values, o.value) {
			return badValue(o, values...)
		}
		*field(p) = o.value
		return nil
	}
}

// onOff handles a switch.
func onOff(field func(*parser) **bool) handler {
	return func(p *parser, o option) error {
		if o.value != "on" && o.value != "off" {
			return badValue(o, "on", "off")
		}
		v := o.value == "on"
		*field(p) = &v
		return nil
	}
}

// writeback also takes the numbers that fuse-overlayfs knows.
func (p *parser) writeback(o option) error {
	switch o.value {
	case "1":
		o.value = "on"
	case "0":
		o.value = "off"
	}
	return onOff(func(p *parser) **bool { return &p.Writeback })(p, o)
}

// flag handles an option without a value. fuse-overlayfs takes NAME=1 too.
func flag(set func(*parser)) handler {
	return func(p *parser, o option) error {
		if o.hasValue && o.value != "1" {
			return fmt.Errorf("option %s takes no value, not %q", o.name, Unescape(o.value))
		}
		set(p)
		return nil
	}
}

func badValue(o option, values ...string) error {
	return fmt.Errorf("option %s must be one of %s, not %q", o.name, strings.Join(values, ", "), Unescape(o.value))
}
