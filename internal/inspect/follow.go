package inspect

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symlinks are followed for one path, as in the kernel
// (include/linux/namei.h: MAXSYMLINKS).
const maxLinks = 40

// Follow finds what a symlink leads to in a view; absolute targets begin at the
// root of the view, and nothing leads out of it. ENOENT: nothing is there.
// ELOOP: too many links.
func (m *Model) Follow(v Version, view int) (Version, error) {
	start := m.Path(v.Node)
	rest := strings.Split(start, "/")
	at := Root
	links := 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = max(m.Parent(at), Root)
			continue
		}
		c, ok := m.Child(at, part)
		var cv Version
		if ok {
			cv, ok = m.At(c, view)
		}
		if !ok {
			return Version{}, fmt.Errorf("%s leads to %s: %w", start, path.Join(m.Path(at), part, path.Join(rest...)), unix.ENOENT)
		}
		if cv.Type() != unix.S_IFLNK {
			at = c
			continue
		}
		if links++; links > maxLinks {
			return Version{}, fmt.Errorf("%s: %w", start, unix.ELOOP)
		}
		target, err := m.Readlink(cv)
		if err != nil {
			return Version{}, err
		}
		if strings.HasPrefix(target, "/") {
			at = Root
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	end, ok := m.At(at, view)
	if !ok {
		return Version{}, fmt.Errorf("%s: %w", start, unix.ENOENT)
	}
	return end, nil
}
