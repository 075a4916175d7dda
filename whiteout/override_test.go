package whiteout

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOverride(t *testing.T) {
	for _, c := range []struct {
		text string
		want Override
		out  string // what String makes of it, if not text
	}{
		{text: "0:0:0755", want: Override{Mode: 0o755}},
		{text: "1000:5:4711", want: Override{UID: 1000, GID: 5, Mode: 0o4711}},
		{text: "0:0:755", want: Override{Mode: 0o755}, out: "0:0:0755"},
		{text: "0:0:0100644", want: Override{Mode: 0o644}, out: "0:0:0644"},
		{text: "0:0:0755:dir", want: Override{Mode: 0o755, Type: unix.S_IFDIR}},
		{text: "0:0:0644:file", want: Override{Mode: 0o644, Type: unix.S_IFREG}},
		{text: "0:0:0777:symlink", want: Override{Mode: 0o777, Type: unix.S_IFLNK}},
		{text: "0:0:0600:pipe", want: Override{Mode: 0o600, Type: unix.S_IFIFO}},
		{text: "0:0:0600:socket", want: Override{Mode: 0o600, Type: unix.S_IFSOCK}},
		{text: "0:6:0660:block-8-1", want: Override{GID: 6, Mode: 0o660, Type: unix.S_IFBLK, Rdev: unix.Mkdev(8, 1)}},
		{text: "0:0:0666:char-1-3\x00", want: Override{Mode: 0o666, Type: unix.S_IFCHR, Rdev: unix.Mkdev(1, 3)}, out: "0:0:0666:char-1-3"},
		{text: "4294967295:0:0600", want: Override{UID: 1<<32 - 1, Mode: 0o600}},
	} {
		got, err := ParseOverride(c.text)
		if err != nil || got != c.want {
			t.Errorf("ParseOverride(%q) = %+v, %v, want %+v", c.text, got, err, c.want)
		}
		if c.out == "" {
			c.out = c.text
		}
		if got.String() != c.out {
			t.Errorf("%q is written as %q, want %q", c.text, got.String(), c.out)
		}
	}
	for _, text := range []string{
		"", "0", "0:0", "0:0:", "a:0:0755", "-1:0:0755", "0:0:0888", "0:0:0755:", "0:0:0755:hose",
		"0:0:0755:char", "0:0:0755:char-1", "0:0:0755:char-x-1", "4294967296:0:0755", "0:0:0755:char:1-3",
	} {
		if _, err := ParseOverride(text); !errors.Is(err, unix.EINVAL) {
			t.Errorf("ParseOverride(%q): %v, want EINVAL", text, err)
		}
	}
}
