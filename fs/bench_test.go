package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The benchmarks call the filesystem as the kernel's requests do, without a
// mount: what they measure is the daemon's own work. They run on tmpfs where
// there is one.

// benchUnion is a union of five layers; the directory d has size files in the
// bottom layer and one of its own in every other.
func benchUnion(b *testing.B, size int) (*bed, *union, *node) {
	b.Helper()
	const layers = 5
	var text []string
	for i := range layers {
		text = append(text, fmt.Sprintf("file d/layer%d\n", i))
	}
	bed := newBed(b, strings.Join(text, "==\n"))
	bottom := filepath.Join(bed.lowers[layers-1], "d")
	for i := range size {
		fd, err := unix.Open(filepath.Join(bottom, fmt.Sprintf("file%d", i)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		must(b, err)
		must(b, unix.Close(fd))
	}
	u := bed.open(b)
	dir, err := u.get("d")
	must(b, err)
	return bed, u, dir
}

func BenchmarkLookupWarm(b *testing.B) {
	_, u, dir := benchUnion(b, 1)
	if _, err := u.get("d/file0"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n, _, err := u.f.lookup(dir, "file0")
		must(b, err)
		u.f.forget(n.id, 1)
	}
}

// BenchmarkLookupCold looks up what the kernel has forgotten: in the top lower
// layer, in the bottom one, and a name that is nowhere.
func BenchmarkLookupCold(b *testing.B) {
	for _, c := range []struct{ what, name string }{{"top", "layer0"}, {"bottom", "file0"}, {"missing", "nothing"}} {
		b.Run(c.what, func(b *testing.B) {
			_, u, dir := benchUnion(b, 1)
			b.ReportAllocs()
			for b.Loop() {
				n, _, err := u.f.lookup(dir, c.name)
				if err == unix.ENOENT && c.what == "missing" {
					continue
				}
				must(b, err)
				u.f.forget(n.id, 1)
			}
		})
	}
}

// BenchmarkReaddir lists a merged directory: "first" merges the layers, "again"
// has them merged.
func BenchmarkReaddir(b *testing.B) {
	for _, size := range []int{10, 1000, 100000} {
		for _, again := range []bool{false, true} {
			what := map[bool]string{false: "first", true: "again"}[again]
			b.Run(fmt.Sprintf("%s/%d", what, size), func(b *testing.B) {
				_, u, dir := benchUnion(b, size)
				buf := make([]byte, 1<<17)
				r := newRaw(u.f)
				b.ReportAllocs()
				for b.Loop() {
					if !again {
						dir.dir.index = nil
					}
					in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dir.id}}
					for {
						list := fuse.NewDirEntryList(buf, in.Offset)
						if s := r.ReadDir(nil, in, list); s != fuse.OK {
							b.Fatal(s)
						}
						if len(list.Bytes()) == 0 {
							break
						}
						in.Offset = list.Offset
					}
				}
			})
		}
	}
}

func BenchmarkCopyUp(b *testing.B) {
	for _, c := range []struct {
		what       string
		size, data int64
	}{{"small", 100, 100}, {"1MiB", 1 << 20, 1 << 20}, {"sparse1GiB", 1 << 30, 4096}} {
		b.Run(c.what, func(b *testing.B) {
			bed, u, dir := benchUnion(b, 0)
			path := filepath.Join(bed.lowers[4], "d/f")
			must(b, os.WriteFile(path, make([]byte, c.data), 0o644))
			must(b, os.Truncate(path, c.size))
			must(b, u.f.copyUp(dir, wantMeta))
			b.ReportAllocs()
			b.SetBytes(c.data)
			for b.Loop() {
				n, _, err := u.f.lookup(dir, "f")
				must(b, err)
				must(b, u.f.copyUp(n, wantData))
				b.StopTimer()
				u.f.forget(n.id, 1)
				must(b, unix.Unlink(filepath.Join(bed.upper, "d/f")))
				b.StartTimer()
			}
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	_, u, dir := benchUnion(b, 1)
	must(b, u.f.copyUp(dir, wantMeta))
	o := newObject{mode: unix.S_IFREG | 0o644, owner: fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		n, _, err := u.f.create(dir, fmt.Sprintf("new%d", i), &o)
		must(b, err)
		u.f.forget(n.id, 1)
	}
}

// BenchmarkCreateForAnother creates for a caller that is not the daemon's user.
func BenchmarkCreateForAnother(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("creating for other users needs root")
	}
	_, u, dir := benchUnion(b, 1)
	o := newObject{mode: unix.S_IFREG | 0o644, owner: fuse.Owner{Uid: 1234, Gid: 1234}}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		n, _, err := u.f.create(dir, fmt.Sprintf("new%d", i), &o)
		must(b, err)
		u.f.forget(n.id, 1)
	}
}

func BenchmarkGetattr(b *testing.B) {
	_, u, dir := benchUnion(b, 2)
	must(b, u.f.copyUp(dir, wantMeta))
	for _, c := range []struct{ what, name string }{{"lower", "file0"}, {"upper", "file1"}} {
		b.Run(c.what, func(b *testing.B) {
			n, _, err := u.f.lookup(dir, c.name)
			must(b, err)
			if c.what == "upper" {
				must(b, u.f.copyUp(n, wantData))
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := u.f.getAttr(n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
