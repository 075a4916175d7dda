package cow

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

func TestCompletionOnFullDiskChangesNothing(t *testing.T) {
	mnt := smallTmpfs(t, 1024)
	p, big := newPlace(t, mnt), newPlace(t, os.TempDir())
	must(t, makeFile(func(fd int) error {
		_, err := sys.Pwrite(fd, []byte(strings.Repeat("x", 4<<20)), 0)
		return err
	}, 0o4755, map[string][]byte{"security.capability": capNetRaw})(big.lower, "o"))
	w := p.open(t, WorkdirOptions{Namespace: namespace()})
	must(t, copyObject(w, object{request: func(r *Request) { r.Metacopy = true }}, big.lower, p.upper))
	before, err := fingerprint(p.upper, "o")
	must(t, err)

	if err := completeCopy(w, big.lower, p.upper); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("want ENOSPC, got %v", err)
	}
	if after, err := fingerprint(p.upper, "o"); err != nil || after != before {
		t.Errorf("file became\n%s(%v), was\n%s", after, err, before)
	}
	var st unix.Statx_t
	must(t, sys.Statx(p.upper, "o", &st))
	if st.Blocks != 0 {
		t.Errorf("%d blocks were not given back", st.Blocks)
	}
	if m, err := whiteout.ReadMarks(p.upper, "o", false, namespace()); err != nil || !m.HasMetacopy {
		t.Errorf("metacopy mark: %v, %v", m.HasMetacopy, err)
	}
}

func TestCompletionKeepsCapabilityAndTimes(t *testing.T) {
	needRoot(t)
	p := newPlace(t, os.TempDir())
	must(t, makeFile(words, 0o6755, map[string][]byte{"security.capability": capNetRaw})(p.lower, "o"))
	want, err := fingerprint(p.lower, "o")
	must(t, err)
	w := p.open(t, WorkdirOptions{Namespace: namespace()})
	must(t, copyObject(w, object{request: func(r *Request) { r.Metacopy = true }}, p.lower, p.upper))
	must(t, completeCopy(w, p.lower, p.upper))
	if got, err := fingerprint(p.upper, "o"); err != nil || got != want {
		t.Errorf("copy is\n%s(%v), want\n%s", got, err, want)
	}
}
