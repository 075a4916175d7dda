package cow

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

func TestCopyUpKeepsEverything(t *testing.T) {
	onFilesystems(t, func(t *testing.T, dir string) {
		for _, o := range objects() {
			t.Run(o.name, func(t *testing.T) { checkCopyUp(t, dir, o) })
		}
	})
}

func checkCopyUp(t *testing.T, dir string, o object) {
	p := newPlace(t, dir)
	name := strings.Repeat("n", 255)
	must(t, o.make(p.lower, name))
	want, err := fingerprint(p.lower, name)
	must(t, err)
	w := p.open(t, WorkdirOptions{Index: true, Namespace: namespace()})
	w.noTmpfile.Store(o.noTmpfile)
	old := [2]unix.Timespec{{Sec: 11, Nsec: 22}, {Sec: 33, Nsec: 44}}
	must(t, sys.Utimensat(p.upper, "", &old))

	r := p.request(t, o, name)
	r.Origin, r.Impure = []byte("a file handle"), true
	st, err := w.CopyUp(r)
	must(t, err)

	if got, err := fingerprint(p.upper, name); err != nil || got != want {
		t.Errorf("copy is\n%s(%v), want\n%s", got, err, want)
	}
	if after, err := fingerprint(p.lower, name); err != nil || after != want {
		t.Errorf("lower became\n%s(%v), was\n%s", after, err, want)
	}
	if uint32(st.Mode) != r.Meta.Mode || int64(st.Size) != r.Meta.Size && r.Meta.typ() == unix.S_IFREG {
		t.Errorf("returned attributes: mode %o size %d", st.Mode, st.Size)
	}
	origin, err := r.Namespace.Get(p.upper, name, whiteout.Origin)
	userSpecial := r.Namespace == whiteout.User && r.Meta.typ() != unix.S_IFREG && r.Meta.typ() != unix.S_IFDIR
	if string(origin) != "a file handle" && !userSpecial {
		t.Errorf("origin %q, %v", origin, err)
	}
	if v, err := r.Namespace.Get(p.upper, "", whiteout.Impure); string(v) != "y" {
		t.Errorf("parent's impure mark: %q, %v", v, err)
	}
	var parent unix.Statx_t
	must(t, sys.Statx(p.upper, "", &parent))
	if parent.Mtime.Sec != 33 || parent.Mtime.Nsec != 44 || parent.Atime.Sec != 11 {
		t.Errorf("parent's times changed: %+v %+v", parent.Mtime, parent.Atime)
	}
	wantNlink := uint32(1)
	if r.IndexName != "" {
		wantNlink = 2
		var index unix.Statx_t
		must(t, sys.Statx(w.IndexFD(), r.IndexName, &index))
		if index.Ino != st.Ino {
			t.Errorf("index entry has inode %d, copy %d", index.Ino, st.Ino)
		}
		v, _ := r.Namespace.Get(p.upper, name, whiteout.Nlink)
		if string(v) != r.NlinkAfter {
			t.Errorf("nlink mark %q, want %q", v, r.NlinkAfter)
		}
	}
	if st.Nlink != wantNlink && r.Meta.typ() != unix.S_IFDIR {
		t.Errorf("nlink %d, want %d", st.Nlink, wantNlink)
	}
	p.wantClean(t)
	must(t, w.Close())
}

func TestCopyUpKeepsHoles(t *testing.T) {
	onFilesystems(t, func(t *testing.T, dir string) {
		for _, kind := range []string{"descriptor", "reader"} {
			t.Run(kind, func(t *testing.T) {
				p := newPlace(t, dir)
				must(t, makeFile(sparse, 0o644, nil)(p.lower, "f"))
				w := p.open(t, WorkdirOptions{Namespace: namespace()})
				r := p.request(t, object{}, "f")
				if kind == "reader" {
					f, err := os.Open(filepath.Join(p.lowerDir, "f"))
					must(t, err)
					defer f.Close()
					r.Data = readSource{f}
				}
				st, err := w.CopyUp(r)
				must(t, err)
				if st.Blocks*512 > 1<<20 {
					t.Errorf("copy of 8 MiB with two blocks of data takes %d bytes", st.Blocks*512)
				}
				a, err := os.ReadFile(filepath.Join(p.lowerDir, "f"))
				must(t, err)
				b, err := os.ReadFile(filepath.Join(p.upperDir, "f"))
				must(t, err)
				if string(a) != string(b) {
					t.Error("contents differ")
				}
			})
		}
	})
}

func TestDataLimit(t *testing.T) {
	for _, limit := range []int64{0, 1, 5, 70000, 80000, 1 << 30} {
		p := newPlace(t, os.TempDir())
		must(t, makeFile(words, 0o644, nil)(p.lower, "f"))
		w := p.open(t, WorkdirOptions{Namespace: namespace()})
		r := p.request(t, object{}, "f")
		r.DataLimit = limit
		_, err := w.CopyUp(r)
		must(t, err)
		all, err := os.ReadFile(filepath.Join(p.lowerDir, "f"))
		must(t, err)
		got, err := os.ReadFile(filepath.Join(p.upperDir, "f"))
		must(t, err)
		if want := all[:min(limit, int64(len(all)))]; string(got) != string(want) {
			t.Errorf("limit %d: %d bytes, want %d", limit, len(got), len(want))
		}
	}
}

func TestMissingDataIsRefused(t *testing.T) {
	p := newPlace(t, os.TempDir())
	must(t, makeFile(words, 0o644, nil)(p.lower, "f"))
	w := p.open(t, WorkdirOptions{Namespace: namespace()})
	r := p.request(t, object{}, "f")
	r.Data = nil
	if _, err := w.CopyUp(r); !errors.Is(err, unix.EINVAL) {
		t.Errorf("no data: %v", err)
	}
	r = p.request(t, object{}, "f")
	r.Meta.Size++
	if _, err := w.CopyUp(r); !errors.Is(err, unix.EIO) {
		t.Errorf("source shorter than it says: %v", err)
	}
	f, err := os.Open(filepath.Join(p.lowerDir, "f"))
	must(t, err)
	defer f.Close()
	r.Data = readSource{f}
	if _, err := w.CopyUp(r); !errors.Is(err, unix.EIO) {
		t.Errorf("reader shorter than it says: %v", err)
	}
	if p.exists("f") {
		t.Error("a copy was published")
	}
	p.wantClean(t)
}

func TestFullDiskLeavesNothing(t *testing.T) {
	mnt := smallTmpfs(t, 1024)
	for _, o := range []object{{name: "tmpfile"}, {name: "temp", noTmpfile: true}} {
		for _, kind := range []string{"descriptor", "reader"} {
			t.Run(o.name+" "+kind, func(t *testing.T) {
				p := newPlace(t, mnt)
				big := newPlace(t, os.TempDir())
				must(t, makeFile(func(fd int) error {
					_, err := sys.Pwrite(fd, []byte(strings.Repeat("x", 4<<20)), 0)
					return err
				}, 0o644, nil)(big.lower, "f"))
				w := p.open(t, WorkdirOptions{Namespace: namespace()})
				w.noTmpfile.Store(o.noTmpfile)
				r := big.request(t, o, "f")
				r.ParentFD = p.upper
				if kind == "reader" {
					f, err := os.Open(filepath.Join(big.lowerDir, "f"))
					must(t, err)
					defer f.Close()
					r.Data = readSource{f}
				}
				if _, err := w.CopyUp(r); !errors.Is(err, unix.ENOSPC) {
					t.Errorf("want ENOSPC, got %v", err)
				}
				if p.exists("f") {
					t.Error("a copy was published")
				}
				p.wantClean(t)
				var st unix.Statfs_t
				must(t, unix.Statfs(mnt, &st))
				if st.Bfree < st.Blocks/2 {
					t.Errorf("space was not given back: %d of %d blocks free", st.Bfree, st.Blocks)
				}
			})
		}
	}
}

func TestCancelEndsCopy(t *testing.T) {
	p := newPlace(t, os.TempDir())
	must(t, makeFile(words, 0o644, nil)(p.lower, "f"))
	w := p.open(t, WorkdirOptions{Namespace: namespace()})
	r := p.request(t, object{}, "f")
	f, err := os.Open(filepath.Join(p.lowerDir, "f"))
	must(t, err)
	defer f.Close()
	r.Data, r.Cancel = readSource{f}, func() error { return unix.EINTR }
	if _, err := w.CopyUp(r); !errors.Is(err, unix.EINTR) {
		t.Errorf("want EINTR, got %v", err)
	}
	p.wantClean(t)
}

func TestPublishNeverReplaces(t *testing.T) {
	for _, o := range objects() {
		t.Run(o.name, func(t *testing.T) {
			p := newPlace(t, os.TempDir())
			must(t, o.make(p.lower, "o"))
			w := p.open(t, WorkdirOptions{Index: true, Namespace: namespace()})
			w.noTmpfile.Store(o.noTmpfile)
			var ready [2]*Prepared
			for i := range ready {
				r := p.request(t, o, "o")
				r.IndexName = "" // both are to race for the name itself
				var err error
				ready[i], err = w.Prepare(r)
				must(t, err)
			}
			errs := make(chan error, 2)
			for _, c := range ready {
				go func() { errs <- c.Publish(p.upper, "o") }()
			}
			first, second := <-errs, <-errs
			if first != nil {
				first, second = second, first
			}
			if first != nil || !errors.Is(second, ErrExist) || !errors.Is(second, unix.EEXIST) {
				t.Errorf("two publishes: %v and %v", first, second)
			}
			for _, c := range ready {
				must(t, c.Discard())
				must(t, c.Discard())
			}
			want, err := fingerprint(p.lower, "o")
			must(t, err)
			if got, err := fingerprint(p.upper, "o"); err != nil || got != want {
				t.Errorf("copy is\n%s(%v), want\n%s", got, err, want)
			}
			p.wantClean(t)
		})
	}
}

func TestIndexEntryIsSharedBySecondName(t *testing.T) {
	p := newPlace(t, os.TempDir())
	must(t, makeFile(words, 0o644, nil)(p.lower, "a"))
	w := p.open(t, WorkdirOptions{Index: true, Namespace: namespace()})
	asked := func() *Request { return p.request(t, object{request: func(r *Request) { r.IndexName = "00fb" }}, "a") }
	_, err := w.CopyUp(asked())
	must(t, err)
	r := asked()
	r.Name = "b"
	if _, err := w.CopyUp(r); !errors.Is(err, ErrIndexExists) || p.exists("b") {
		t.Errorf("second copy: %v", err)
	}
	must(t, w.LinkIndex("00fb", p.upper, "b"))
	if err := w.LinkIndex("00fb", p.upper, "b"); !errors.Is(err, ErrExist) {
		t.Errorf("second link: %v", err)
	}
	p.wantClean(t)
}

func TestTakenCopyLivesWithoutName(t *testing.T) {
	for _, noTmpfile := range []bool{false, true} {
		p := newPlace(t, os.TempDir())
		must(t, makeFile(words, 0o644, nil)(p.lower, "f"))
		w := p.open(t, WorkdirOptions{Namespace: namespace()})
		w.noTmpfile.Store(noTmpfile)
		c, err := w.Prepare(p.request(t, object{}, "f"))
		must(t, err)
		fd := c.TakeFD()
		must(t, c.Discard())
		p.wantClean(t)
		var st unix.Statx_t
		must(t, sys.Statx(fd, "", &st))
		buf := make([]byte, 15)
		if _, err := sys.Pread(fd, buf, 0); err != nil || string(buf) != "what lies below" || st.Nlink != 0 {
			t.Errorf("unlinked copy: %q, nlink %d, %v", buf, st.Nlink, err)
		}
		must(t, unix.Close(fd))
	}
}

func TestFileFlagsBecomeMarkOrFlag(t *testing.T) {
	p := newPlace(t, os.TempDir())
	must(t, makeFile(words, 0o644, nil)(p.lower, "f"))
	w := p.open(t, WorkdirOptions{Namespace: namespace()})
	r := p.request(t, object{}, "f")
	r.Meta.Flags = fsAppendFlag | fsImmutableFlag | fsNoatimeFlag
	_, err := w.CopyUp(r)
	must(t, err)
	if v, err := r.Namespace.Get(p.upper, "f", whiteout.Protattr); string(v) != "ai" {
		t.Errorf("protattr %q, %v", v, err)
	}
	f, err := os.Open(filepath.Join(p.upperDir, "f"))
	must(t, err)
	defer f.Close()
	have, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Skipf("no file flags here: %v", err)
	}
	if have&(fsAppendFlag|fsImmutableFlag|fsNoatimeFlag) != fsNoatimeFlag {
		t.Errorf("flags %x", have)
	}
}

func TestReflinkTakesNoSpace(t *testing.T) {
	for _, mkfs := range [][]string{{"mkfs.xfs", "-q", "-m", "reflink=1"}, {"mkfs.btrfs", "-q"}} {
		t.Run(mkfs[0], func(t *testing.T) {
			mnt := loopMount(t, 300, mkfs...)
			p := newPlace(t, mnt)
			const size = 32 << 20
			must(t, makeFile(func(fd int) error {
				if _, err := sys.Pwrite(fd, []byte(strings.Repeat("some data, ", size/11)), 0); err != nil {
					return err
				}
				return unix.Fsync(fd)
			}, 0o644, nil)(p.lower, "o"))
			w := p.open(t, WorkdirOptions{Namespace: namespace()})
			free := func() int64 {
				must(t, sys.Syncfs(w.FD()))
				var st unix.Statfs_t
				must(t, unix.Statfs(mnt, &st))
				return int64(st.Bfree) * st.Bsize
			}
			before := free()
			must(t, copyObject(w, object{}, p.lower, p.upper))
			if used := before - free(); used > size/4 {
				t.Errorf("copy of %d bytes took %d", size, used)
			}
		})
	}
}
