package mountopt

import (
	"fmt"
	"strconv"
	"strings"
)

// IDRange says that Count ids that begin with Disk in the layers are shown as
// those that begin with Shown.
type IDRange struct{ Disk, Shown, Count uint32 }

// Values of Owner beside UID:GID.
const (
	OwnerImage = "image" // as the layers say or remember
	OwnerMe    = "me"    // everything belongs to whoever mounts
)

// idMap handles a list of ranges, DISK:SHOWN:COUNT[:DISK:SHOWN:COUNT...]. The
// commas of containerd's labels are colons by the time they come here.
func idMap(field func(*parser) *[]IDRange) handler {
	return func(p *parser, o option) error {
		bad := badValue(o, "the lists of DISK:SHOWN:COUNT")
		words := strings.Split(o.value, ":")
		if len(words)%3 != 0 {
			return bad
		}
		var out []IDRange
		for ; len(words) > 0; words = words[3:] {
			var n [3]uint32
			for i := range n {
				v, err := strconv.ParseUint(words[i], 10, 32)
				if err != nil {
					return bad
				}
				n[i] = uint32(v)
			}
			const ids = 1 << 32
			if n[2] == 0 || uint64(n[0])+uint64(n[2]) > ids || uint64(n[1])+uint64(n[2]) > ids {
				return bad
			}
			out = append(out, IDRange{Disk: n[0], Shown: n[1], Count: n[2]})
		}
		*field(p) = out
		return nil
	}
}

// id handles a user or group number.
func id(field func(*parser) **uint32) handler {
	return func(p *parser, o option) error {
		v, err := strconv.ParseUint(o.value, 10, 32)
		if err != nil || v == 1<<32-1 {
			return badValue(o, "the numbers from 0 to 4294967294")
		}
		n := uint32(v)
		*field(p) = &n
		return nil
	}
}

// squashToRoot is squash_to_uid=0,squash_to_gid=0; either of these wins over it
// (fuse-overlayfs src/overlay.rs).
func (p *parser) squashToRoot() { p.squashRoot = true }

func (p *parser) xattrPermissions(o option) error {
	n, err := strconv.Atoi(o.value)
	if err != nil || n < 0 || n > 2 {
		return badValue(o, "0", "1", "2")
	}
	p.XattrPermissions = &n
	return nil
}

func (p *parser) owner(o option) error {
	if !o.hasValue {
		return nil // mount(8)'s own option, which says who may mount
	}
	if o.value != OwnerImage && o.value != OwnerMe {
		if _, _, err := ParseOwner(o.value); err != nil {
			return badValue(o, OwnerImage, OwnerMe, "UID:GID")
		}
	}
	p.Owner = o.value
	return nil
}

// ParseOwner reads UID:GID.
func ParseOwner(s string) (uid, gid uint32, err error) {
	u, g, ok := strings.Cut(s, ":")
	un, err1 := strconv.ParseUint(u, 10, 32)
	gn, err2 := strconv.ParseUint(g, 10, 32)
	const none = 1<<32 - 1 // (uid_t)-1 is nobody's
	if !ok || err1 != nil || err2 != nil || un == none || gn == none {
		return 0, 0, fmt.Errorf("owner must be %s, %s or UID:GID, not %q", OwnerImage, OwnerMe, s)
	}
	return uint32(un), uint32(gn), nil
}

// CheckOwner looks for contradictions about owners.
func (o *Options) CheckOwner() error {
	if o.Owner == "" {
		return nil
	}
	if o.Owner != OwnerImage && o.Owner != OwnerMe {
		if _, _, err := ParseOwner(o.Owner); err != nil {
			return err
		}
	}
	if o.SquashUID != nil || o.SquashGID != nil {
		return fmt.Errorf("options owner and squash_to_uid, squash_to_gid or squash_to_root contradict each other")
	}
	return nil
}

// owners formats the options of this file.
func (f *formatter) owners(o *Options) {
	for _, m := range [...]struct {
		name   string
		ranges []IDRange
	}{{"uidmapping", o.UIDs}, {"gidmapping", o.GIDs}} {
		var words []string
		for _, r := range m.ranges {
			words = append(words, fmt.Sprintf("%d:%d:%d", r.Disk, r.Shown, r.Count))
		}
		if len(words) > 0 {
			f.raw(m.name, strings.Join(words, ":"))
		}
	}
	if o.SquashUID != nil {
		f.raw("squash_to_uid", strconv.FormatUint(uint64(*o.SquashUID), 10))
	}
	if o.SquashGID != nil {
		f.raw("squash_to_gid", strconv.FormatUint(uint64(*o.SquashGID), 10))
	}
	if o.XattrPermissions != nil {
		f.raw("xattr_permissions", strconv.Itoa(*o.XattrPermissions))
	}
	f.value("owner", o.Owner)
}
