package fs

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// TestDirIndexCookies adds and removes at random, and goes on reading from
// cookies that it remembers.
func TestDirIndexCookies(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		ix := newDirIndex(0)
		cookies := map[string]uint64{} // of what is there
		owner := map[uint64]string{}   // of every cookie that was ever used
		last := uint64(cookieFirst) - 1
		for range 2000 {
			name := fmt.Sprint(r.IntN(150))
			old, was := cookies[name]
			if r.IntN(2) == 0 {
				ix.remove(name)
				delete(cookies, name)
			} else {
				ix.add(name, uint64(r.IntN(1000)), unix.S_IFREG)
				c := ix.byName[name]
				if was && c != old {
					t.Fatalf("seed %d: %s had the cookie %d and has %d", seed, name, old, c)
				}
				if of, used := owner[c]; used && of != name {
					t.Fatalf("seed %d: %s has the cookie %d, which was that of %s", seed, name, c, of)
				}
				cookies[name], owner[c], last = c, name, max(last, c)
			}
			if ix.has(name) != (cookies[name] != 0) || ix.empty() != (len(cookies) == 0) {
				t.Fatalf("seed %d: has(%s) = %v, empty = %v", seed, name, ix.has(name), ix.empty())
			}
			if len(ix.ents) > 2*len(cookies)+66 {
				t.Fatalf("seed %d: %d places for %d entries", seed, len(ix.ents), len(cookies))
			}
		}
		from := uint64(r.IntN(int(last)))
		seen := map[string]bool{}
		prev := from
		for i := ix.at(from + 1); i < len(ix.ents); i++ {
			if e := ix.ents[i]; !e.dead {
				if e.cookie <= prev || seen[e.name] || cookies[e.name] != e.cookie {
					t.Fatalf("seed %d: entry %+v after cookie %d", seed, e, prev)
				}
				prev, seen[e.name] = e.cookie, true
			}
		}
		for name, c := range cookies {
			if (c > from) != seen[name] {
				t.Fatalf("seed %d: %s with the cookie %d, read from %d: %v", seed, name, c, from, seen[name])
			}
		}
	}
}

// TestDirIndexShowsNoNameTwice: a reader that has passed a name does not meet it
// again when it is removed and made anew meanwhile.
func TestDirIndexShowsNoNameTwice(t *testing.T) {
	ix := newDirIndex(2)
	ix.add("a", 1, unix.S_IFREG)
	ix.add("b", 2, unix.S_IFREG)
	passed := ix.byName["a"]
	ix.remove("a")
	ix.add("a", 3, unix.S_IFSOCK)
	for _, e := range ix.ents[ix.at(passed+1):] {
		if e.name == "a" && !e.dead {
			t.Errorf("a is listed again: %+v", e)
		}
	}
	if e := ix.entry("a"); e == nil || e.ino != 3 || e.dead || ix.dead != 0 {
		t.Errorf("a is %+v, %d dead", e, ix.dead)
	}
}

func TestDirIndexAddReplacesTheObject(t *testing.T) {
	ix := newDirIndex(1)
	ix.add("a", 1, unix.S_IFREG)
	c := ix.byName["a"]
	ix.add("a", 2, unix.S_IFDIR)
	if len(ix.ents) != 1 || ix.ents[0] != (indexEnt{name: "a", ino: 2, typ: unix.S_IFDIR, cookie: c}) {
		t.Errorf("entries %+v", ix.ents)
	}
	ix.remove("nothing")
	if ix.dead != 0 {
		t.Error("removing nothing left a dead entry")
	}
}

type aclRow struct {
	tag, perm uint16
	id        uint32
}

func aclBytes(rows ...aclRow) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, r := range rows {
		b = binary.LittleEndian.AppendUint16(b, r.tag)
		b = binary.LittleEndian.AppendUint16(b, r.perm)
		b = binary.LittleEndian.AppendUint32(b, r.id)
	}
	return b
}

// TestInheritACLAsTheFilesystem creates objects in directories with default
// ACLs and compares what the filesystem gives them.
func TestInheritACLAsTheFilesystem(t *testing.T) {
	const none = 1<<32 - 1
	r := rand.New(rand.NewPCG(1, 4))
	perm := func() uint16 { return uint16(r.IntN(8)) }
	base := t.TempDir()
	old := unix.Umask(0o027) // must not count
	defer unix.Umask(old)
	for i := range 120 {
		rows := []aclRow{{aclUserObj, perm(), none}}
		named := r.IntN(3) == 0
		if named {
			rows = append(rows, aclRow{0x02, perm(), 1000})
		}
		rows = append(rows, aclRow{aclGroupObj, perm(), none})
		if r.IntN(3) == 0 {
			named = true
			rows = append(rows, aclRow{0x08, perm(), 2000})
		}
		if named || r.IntN(3) == 0 {
			rows = append(rows, aclRow{aclMask, perm(), none})
		}
		rows = append(rows, aclRow{aclOther, perm(), none})
		def := aclBytes(rows...)
		dir := filepath.Join(base, fmt.Sprint(i))
		must(t, os.Mkdir(dir, 0o755))
		if err := unix.Setxattr(dir, aclDefaultAttr, def, 0); err != nil {
			t.Skipf("no ACLs here: %v", err)
		}
		mode := uint32(r.IntN(0o1000))
		compareACL(t, def, mode, filepath.Join(dir, "f"), func(path string) error { return unix.Mknod(path, unix.S_IFREG|mode, 0) })
		compareACL(t, def, mode, filepath.Join(dir, "d"), func(path string) error { return unix.Mkdir(path, mode) })
	}
}

func compareACL(t *testing.T, def []byte, mode uint32, path string, mk func(path string) error) {
	t.Helper()
	must(t, mk(path))
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, aclAccessAttr, buf)
	want := string(buf[:max(n, 0)])
	if err == unix.ENODATA {
		want = ""
	} else {
		must(t, err)
	}
	access, newMode, err := inheritACL(def, mode)
	if err != nil || newMode != st.Mode&0o777 || string(access) != want {
		t.Errorf("default %x, mode %#o: %x, mode %#o, %v; the filesystem gives %x, mode %#o",
			def, mode, access, newMode, err, want, st.Mode&0o777)
	}
}

func TestInheritACLKeepsSpecialBits(t *testing.T) {
	const none = 1<<32 - 1
	def := aclBytes(aclRow{aclUserObj, 7, none}, aclRow{aclGroupObj, 5, none}, aclRow{aclOther, 0, none})
	if _, mode, err := inheritACL(def, 0o7777); err != nil || mode != 0o7750 {
		t.Errorf("mode %#o, %v, want 07750", mode, err)
	}
}

func FuzzInheritACL(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 1, 0, 7, 0, 0, 0, 0, 0}, uint32(0o644))
	f.Fuzz(func(t *testing.T, def []byte, mode uint32) {
		access, newMode, err := inheritACL(def, mode)
		if err != nil {
			return
		}
		if newMode&^mode != 0 {
			t.Errorf("mode %#o became %#o", mode, newMode)
		}
		if access != nil && len(access) != len(def) {
			t.Errorf("an ACL of %d bytes became one of %d", len(def), len(access))
		}
	})
}

func TestUnionNlink(t *testing.T) {
	for _, c := range []struct {
		mark         string
		upper, lower int
		want         int
	}{
		{"U+0", 3, 9, 3},
		{"U+1", 2, 0, 3},
		{"U-1", 2, 5, 1},
		{"U-2", 2, 0, 0},
		{"L+0", 2, 4, 4},
		{"L-1", 2, 4, 3},
		{"L+2", 2, 4, 6},
		{"L+1", 3, 0, 2}, // no lower file any more: the names in the upper
		{"", 3, 9, 2},
		{"U", 3, 9, 2},
		{"U+", 3, 9, 2},
		{"X+1", 3, 9, 2},
		{"U+x", 3, 9, 2},
		{"U1.5", 3, 9, 2},
	} {
		if got := unionNlink(c.mark, c.upper, c.lower); got != c.want {
			t.Errorf("unionNlink(%q, %d, %d) = %d, want %d", c.mark, c.upper, c.lower, got, c.want)
		}
	}
}

func TestDeviceNumbersOnTheWire(t *testing.T) {
	for _, c := range []struct {
		major, minor, wire uint32
	}{{0, 0, 0}, {1, 3, 0x103}, {8, 255, 0x8ff}, {8, 256, 0x100800}, {4095, 1<<20 - 1, 1<<32 - 1}} {
		if got := wireDev(unix.Mkdev(c.major, c.minor)); got != c.wire {
			t.Errorf("device %d:%d is %#x, want %#x", c.major, c.minor, got, c.wire)
		}
	}
	r := rand.New(rand.NewPCG(1, 5))
	for range 10000 {
		if w := r.Uint32(); wireDev(realDev(w)) != w {
			t.Fatalf("%#x comes back as %#x", w, wireDev(realDev(w)))
		}
		if d := unix.Mkdev(r.Uint32N(1<<12), r.Uint32N(1<<20)); realDev(wireDev(d)) != d {
			t.Fatalf("device %#x comes back as %#x", d, realDev(wireDev(d)))
		}
	}
}

func TestTimesOf(t *testing.T) {
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	now := unix.Timespec{Nsec: unix.UTIME_NOW}
	before := int64(-5)
	in := fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Atime: uint64(before), Atimensec: 7, Mtime: 1 << 33, Mtimensec: 999999999}}
	for _, c := range []struct {
		valid        uint32
		ok           bool
		atime, mtime unix.Timespec
	}{
		{0, false, omit, omit},
		{fuse.FATTR_MODE | fuse.FATTR_SIZE, false, omit, omit},
		{fuse.FATTR_ATIME, true, unix.Timespec{Sec: -5, Nsec: 7}, omit},
		{fuse.FATTR_MTIME, true, omit, unix.Timespec{Sec: 1 << 33, Nsec: 999999999}},
		{fuse.FATTR_ATIME | fuse.FATTR_ATIME_NOW, true, now, omit},
		{fuse.FATTR_ATIME | fuse.FATTR_MTIME | fuse.FATTR_MTIME_NOW, true, unix.Timespec{Sec: -5, Nsec: 7}, now},
	} {
		in.Valid = c.valid
		if ts, ok := timesOf(&in); ok != c.ok || ts[0] != c.atime || ts[1] != c.mtime {
			t.Errorf("valid %#x: %v, %v", c.valid, ts, ok)
		}
	}
}

func TestInoMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 6))
	type object struct{ dev, ino uint64 }
	var objects []object
	for dev := range uint64(20) {
		for range 300 {
			ino := uint64(r.IntN(1 << 20))
			switch r.IntN(4) {
			case 0:
				ino = r.Uint64()
			case 1:
				ino = 1<<inoBits - 1 - uint64(r.IntN(100))
			}
			objects = append(objects, object{dev * 77, ino})
		}
	}
	first, again := inoMap{devs: map[uint64]uint64{}}, inoMap{devs: map[uint64]uint64{}}
	seen := map[uint64]object{}
	for _, o := range objects {
		n := first.number(o.dev, o.ino)
		if was, dup := seen[n]; dup && was != o {
			t.Errorf("%+v and %+v both have the number %d", was, o, n)
		}
		seen[n] = o
		if m := again.number(o.dev, o.ino); m != n {
			t.Errorf("%+v has the number %d and later %d", o, n, m)
		}
		if n == 0 && o.ino != 0 {
			t.Errorf("%+v has the number 0", o)
		}
	}
	if n := first.number(objects[0].dev, 12345); n != 12345 {
		t.Errorf("object 12345 of the first device has the number %d", n)
	}
}

func TestTable(t *testing.T) {
	tab := newTable()
	root, a, b := &node{}, &node{}, &node{}
	tab.add(root)
	tab.add(a)
	if root.id != rootID || a.id == root.id || tab.get(a.id) != nil || tab.held(a) {
		t.Errorf("ids %d and %d; a node without references is found: %v", root.id, a.id, tab.get(a.id))
	}
	tab.ref(root)
	tab.ref(a)
	tab.ref(a)
	if tab.get(a.id) != a || tab.size() != 2 {
		t.Error("a node with references is not found")
	}
	if tab.unref(a, 1) || tab.get(a.id) != a {
		t.Error("a node with one reference left is gone")
	}
	if !tab.unref(a, 5) || tab.get(a.id) != nil || tab.held(a) {
		t.Error("a node without references is still there")
	}
	if tab.unref(root, 100) || tab.get(rootID) != root {
		t.Error("the root was forgotten")
	}
	tab.add(b)
	if b.id == a.id {
		t.Error("an id was used again")
	}
	keys := hardKeys{upper: 7, lower: devIno{1, 2}, inLower: true}
	tab.setKeys(b, keys)
	tab.ref(b)
	for _, k := range []hardKeys{{upper: 7}, {lower: devIno{1, 2}, inLower: true}} {
		if tab.find(k) != b {
			t.Errorf("not found by %+v", k)
		}
	}
	if tab.find(hardKeys{}) != nil || tab.find(hardKeys{upper: 8, lower: devIno{1, 3}, inLower: true}) != nil {
		t.Error("found by keys that it does not have")
	}
	tab.unref(b, 1)
	if tab.find(keys) != nil {
		t.Error("a forgotten node is found by its keys")
	}
}
