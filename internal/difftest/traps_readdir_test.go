package difftest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// merged are two layers that both have the directory d.
var merged = []string{
	"file d/top top\nfile d/both top\nwhiteout d/gone\n",
	"file d/low low\nfile d/both low\nfile d/gone gone\ndir d/sub\nsymlink d/l low\nfifo d/p\nsocket d/s\nchr d/c 1:3\n",
}

// manyFiles is a fixture of a directory with n files.
func manyFiles(dir string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "file %s/f%04d\n", dir, i)
	}
	return b.String()
}

func TestTrap01ReaddirCookies(t *testing.T) {
	onBoth(t, []string{manyFiles("d", 40), manyFiles("d", 60)}, func(l *live) {
		fd := l.open("d", unix.O_RDONLY|unix.O_DIRECTORY)
		all, err := readAllDirents(fd, 512)
		l.ok(err)
		l.want("entries", len(all), 62)
		// telldir and seekdir: after the offset of an entry comes the next one.
		for _, i := range []int{0, 1, 30, 57, 60} {
			_, err := unix.Seek(fd, all[i].off, unix.SEEK_SET)
			l.ok(err)
			rest, err := readAllDirents(fd, 512)
			l.ok(err)
			if len(rest) != len(all)-i-1 || rest[0].name != all[i+1].name {
				l.t.Errorf("after seekdir to entry %d: %d entries, want %d beginning with %s", i, len(rest), len(all)-i-1, all[i+1].name)
			}
		}
		// rewinddir shows what changed.
		l.write("d/new", "")
		l.ok(os.Remove(l.p("d/f0001")))
		_, err = unix.Seek(fd, 0, unix.SEEK_SET)
		l.ok(err)
		again, err := readAllDirents(fd, 512)
		l.ok(err)
		seen := map[string]int{}
		for _, e := range again {
			seen[e.name]++
		}
		l.want("new, f0001, f0002 after rewind", fmt.Sprint(seen["new"], seen["f0001"], seen["f0002"]), "1 0 1")
	})
}

func TestTrap02UnlinkWhileScanning(t *testing.T) {
	onBoth(t, []string{manyFiles("d", 200), manyFiles("d", 1500)}, func(l *live) {
		fd := l.open("d", unix.O_RDONLY|unix.O_DIRECTORY)
		visited := 0
		for {
			ents, err := getdents(fd, 512)
			l.ok(err)
			if len(ents) == 0 {
				break
			}
			for _, e := range ents {
				if e.name == "." || e.name == ".." {
					continue
				}
				visited++
				l.ok(unix.Unlinkat(fd, e.name, 0))
			}
		}
		l.want("visited", visited, 1500)
		l.ok(os.Remove(l.p("d")))
	})
}

func TestTrap03DInoIsStIno(t *testing.T) {
	script(t, merged, `
		list d
		chmod d/low mode=0600 => ino=kept
		chmod d/p mode=0600 => ino=kept
		chmod d/sub mode=0700 => ino=kept
		setxattr d/l name=trusted.x data=1 => ino=kept
		list d
		list .
		rename d/top d/sub/top
		list d/sub
	`)
	onBoth(t, merged, func(l *live) {
		for _, e := range []string{".", "d", "d/sub"} {
			for _, bad := range badInos(l.p(e)) {
				l.t.Errorf("%s: %s", e, bad)
			}
		}
		l.ok(os.Chmod(l.p("d/low"), 0o600))
		l.remount()
		for _, bad := range badInos(l.p("d")) {
			l.t.Errorf("after remount: %s", bad)
		}
	})
}

// badInos names the entries whose d_ino is not their st_ino.
func badInos(dir string) []string {
	fd, err := openDir(dir)
	if err != nil {
		return []string{err.Error()}
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	ents, err := readAllDirents(fd, 4096)
	if err != nil {
		return []string{err.Error()}
	}
	var bad []string
	for _, e := range ents {
		if e.name == ".." {
			continue
		}
		st, err := lstat(filepath.Join(dir, e.name))
		if err != nil || st.Ino != e.ino {
			bad = append(bad, fmt.Sprintf("%s: d_ino %d, st_ino %d %v", e.name, e.ino, st.Ino, err))
		}
	}
	return bad
}

func TestTrap04DotEntriesAndTypes(t *testing.T) {
	script(t, merged, `
		list d => ".":d "..":d "both":f "c":c "l":l "low":f "p":p "s":s "sub":d "top":f
	`)
	onBoth(t, merged, func(l *live) {
		fd := l.open("d/sub", unix.O_RDONLY|unix.O_DIRECTORY)
		ents, err := readAllDirents(fd, 4096)
		l.ok(err)
		for _, e := range ents {
			switch e.name {
			case ".":
				l.want(". ino", e.ino, l.stat("d/sub").Ino)
			case "..":
				l.want(".. ino", e.ino, l.stat("d").Ino)
			}
		}
		l.want("entries", len(ents), 2)
	})
}

// Trap 5 is about speed: a plain readdir must not stat children. A child whose
// stat would fail shows whether it was asked.
func TestTrap05ReaddirDoesNotStat(t *testing.T) {
	script(t, []string{"file d/f\n", manyFiles("d", 300)}, `
		open d fd=0 flags=O_RDONLY|O_DIRECTORY
		readdir fd=0 len=8192
		unlink d/f0001
		readdir fd=0 len=8192
		readdir fd=0 len=8192
		readdir fd=0 len=8192
	`)
}

func TestTrap06MarksAreHidden(t *testing.T) {
	// AUFS marks in a layer that is not the kernel's: only unionfs reads them.
	onOurs(t, []string{
		"file d/.wh.a\nfile e/.wh..wh..opq\nfile e/new\nchr d/.wh..opq 0:0\nwhiteout d/b\n",
		"file d/a\nfile d/b\nfile d/c\nfile e/old\n",
	}, func(l *live) {
		l.want("d", l.names("d"), "c")
		l.want("e", l.names("e"), "new")
		for _, gone := range []string{"d/a", "d/b", "d/.wh.a", "e/old", "e/.wh..wh..opq", "d/.wh..opq"} {
			_, err := lstat(l.p(gone))
			l.errno(gone, err, "ENOENT")
		}
	})
	onBoth(t, merged, func(l *live) {
		l.ok(os.Remove(l.p("d/low")))
		l.want("d", l.names("d"), "both c l p s sub top")
		l.want("root", l.names("."), "d")
	})
}
