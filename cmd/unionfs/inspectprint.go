package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// painter colours words on a terminal, unless NO_COLOR is set
// (https://no-color.org).
type painter bool

func newPainter(w io.Writer) painter {
	return painter(isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// The colours, as the parameters of SGR.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	cyan   = "36"
	dim    = "2"
	bold   = "1"
)

func (p painter) paint(colour, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// changeColour is the colour of a kind of change.
func changeColour(kind inspect.ChangeKind) string {
	return map[inspect.ChangeKind]string{
		inspect.Added: green, inspect.Changed: yellow, inspect.Deleted: red, inspect.Renamed: cyan, inspect.Copied: dim,
	}[kind]
}

// versionJSON is one version of a path as --json prints it.
type versionJSON struct {
	Layer    int    `json:"layer"`
	Type     string `json:"type"` // file, dir, symlink, char, block, fifo, socket, whiteout
	Mode     string `json:"mode,omitempty"`
	UID      uint32 `json:"uid"`
	GID      uint32 `json:"gid"`
	Size     int64  `json:"size"`
	Mtime    string `json:"mtime,omitempty"`
	Device   string `json:"device,omitempty"` // MAJOR:MINOR
	Opaque   bool   `json:"opaque,omitempty"`
	Metacopy bool   `json:"metacopy,omitempty"`
	Visible  bool   `json:"visible"`
	// What hides it.
	HiddenBy *int   `json:"hiddenByLayer,omitempty"`
	Why      string `json:"why,omitempty"`
	WhyPath  string `json:"whyPath,omitempty"`
}

func newVersionJSON(m *inspect.Model, v *inspect.Version) versionJSON {
	j := versionJSON{Layer: v.Layer, Type: "whiteout", Visible: v.Visible()}
	if !v.Whiteout {
		j.Type, j.Mode = inspect.TypeName(v.Mode), fmt.Sprintf("%04o", v.Mode&0o7777)
		j.UID, j.GID, j.Opaque, j.Metacopy = v.UID, v.GID, v.Opaque, v.Metacopy
		j.Mtime = mtimeOf(v).Format(time.RFC3339Nano)
		if !v.IsDir() {
			j.Size = v.Size
		}
		if isDevice(v) {
			j.Device = deviceText(v)
		}
	}
	if v.Until >= 0 {
		hiddenBy := v.Until
		j.HiddenBy, j.Why, j.WhyPath = &hiddenBy, v.Why.String(), m.Path(v.By)
	}
	return j
}

func mtimeOf(v *inspect.Version) time.Time {
	return time.Unix(v.Mtime.Sec, int64(v.Mtime.Nsec)).UTC()
}

func isDevice(v *inspect.Version) bool { return v.Type() == unix.S_IFCHR || v.Type() == unix.S_IFBLK }

func deviceText(v *inspect.Version) string {
	return fmt.Sprintf("%d:%d", unix.Major(v.Rdev), unix.Minor(v.Rdev))
}

// commandText is the command that made a layer, short and on one line.
func commandText(l *inspect.Layer, width int) string {
	s := l.CreatedBy
	switch {
	case s != "":
	case l.Upper:
		s = "(the mount's upper)"
	default:
		s = l.Name
	}
	s = strings.Join(strings.Fields(s), " ")
	s = strings.TrimPrefix(s, "/bin/sh -c #(nop) ")
	s = strings.TrimPrefix(s, "/bin/sh -c ")
	if r := []rune(s); width > 0 && len(r) > width {
		s = string(r[:width-1]) + "…"
	}
	return printable(s)
}

// sizeText is a size for tables; exact prints bytes.
func sizeText(n int64, human bool) string {
	if human {
		return humanSize(n)
	}
	return fmt.Sprint(n)
}
