package fs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A capability that is set after write(2), while the kernel still holds the data
// back, must not go with the WRITE that comes later; an mtime likewise.
func TestWritingBackKeepsCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("setting security.capability needs root")
	}
	base := t.TempDir()
	upper, work := filepath.Join(base, "u"), filepath.Join(base, "w")
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f, err := New(Config{Upper: upper, Work: work})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	n, _, err := f.create(f.root, "prog", &newObject{mode: unix.S_IFREG | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	caps := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := f.setXattr(n, &fuse.SetXAttrIn{}, attrCapability, caps); err != nil {
		t.Skipf("the filesystem of %s keeps no capabilities: %v", base, err)
	}
	const mtime = 1_234_567_890
	set := &fuse.SetAttrIn{}
	set.Valid, set.Mtime = fuse.FATTR_MTIME|fuse.FATTR_CTIME, mtime
	if _, err := f.setAttr(n, set); err != nil {
		t.Fatal(err)
	}
	for _, cached := range []bool{true, false} {
		in := &fuse.WriteIn{}
		if cached {
			in.WriteFlags = fuse.WRITE_CACHE
		}
		if _, err := f.write(n, in, [][]byte{[]byte("code")}); err != nil {
			t.Fatal(err)
		}
		_, err := f.getXattr(n, attrCapability, make([]byte, 64))
		var st unix.Stat_t
		if serr := unix.Stat(filepath.Join(upper, "prog"), &st); serr != nil {
			t.Fatal(serr)
		}
		if kept := err == nil && st.Mtim.Sec == mtime; kept != cached {
			t.Errorf("WRITE held back: %v; capability: %v, mtime %d", cached, err, st.Mtim.Sec)
		}
	}
}
