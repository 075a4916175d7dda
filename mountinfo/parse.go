package mountinfo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxLine is how long a line may be: an overlay of 500 layers has one of a
// few hundred KiB at most.
const maxLine = 4 << 20

// Parse reads a table. An error names the line.
func Parse(r io.Reader) (Table, error) {
	var out Table
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), maxLine)
	for n := 1; sc.Scan(); n++ {
		if sc.Text() == "" {
			continue
		}
		m, err := parseLine(sc.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, m)
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

func parseLine(line string) (Info, error) {
	// A source may be empty, so runs of spaces count.
	f := strings.Split(line, " ")
	if len(f) < 10 {
		return Info{}, fmt.Errorf("%d fields are too few", len(f))
	}
	sep := -1
	for i := 6; i < len(f); i++ {
		if f[i] == "-" {
			sep = i
			break
		}
	}
	if sep < 0 || len(f)-sep < 4 {
		return Info{}, errors.New("no separator before the filesystem type")
	}
	var m Info
	var err error
	if m.ID, err = strconv.Atoi(f[0]); err != nil {
		return Info{}, fmt.Errorf("mount id %q is no number", f[0])
	}
	if m.Parent, err = strconv.Atoi(f[1]); err != nil {
		return Info{}, fmt.Errorf("parent id %q is no number", f[1])
	}
	if m.Major, m.Minor, err = parseDev(f[2]); err != nil {
		return Info{}, err
	}
	m.Root = unescape(f[3])
	m.Mountpoint = unescape(f[4])
	m.Options = unescape(f[5])
	for _, o := range f[6:sep] {
		if o != "" {
			m.Optional = append(m.Optional, o)
		}
	}
	m.FSType = unescape(f[sep+1])
	m.Source = unescape(f[sep+2])
	m.Super = unescape(strings.Join(f[sep+3:], " "))
	return m, nil
}

func parseDev(s string) (major, minor uint32, err error) {
	a, b, ok := strings.Cut(s, ":")
	x, err1 := strconv.ParseUint(a, 10, 32)
	y, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("device %q is not MAJOR:MINOR", s)
	}
	return uint32(x), uint32(y), nil
}

// unescape replaces the octal escapes that the kernel writes for space, tab,
// newline, backslash and '#' (fs/proc_namespace.c: mangle).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
