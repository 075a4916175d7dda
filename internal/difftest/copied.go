package difftest

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// copiedUp compares what is in the uppers at all: the kernel copies up at an
// open for writing and the subject may do so later, but nothing may be in the
// subject's upper that is not in the kernel's. Other names of a hard-linked file
// may: a FUSE request names the file and not the name that was used.
func (x *run) copiedUp() (*Mismatch, error) {
	oracle, err := upperNames(x.da.Upper)
	if err != nil {
		return nil, err
	}
	subject, err := upperNames(x.db.Upper)
	if err != nil {
		return nil, err
	}
	for p, links := range subject {
		for ; links > 1 && p != "."; p = filepath.Dir(p) {
			oracle[p] = 1
		}
	}
	var more []string
	for p := range subject {
		if _, ok := oracle[p]; !ok {
			more = append(more, strconv.Quote(p))
		}
	}
	if len(more) == 0 {
		return nil, nil
	}
	slices.Sort(more)
	return &Mismatch{Phase: "copied up", Oracle: "not in the upper", Subject: "in the upper: " + strings.Join(more, " ")}, nil
}

// upperNames lists an upper, with the link counts of what are no directories.
func upperNames(upper string) (map[string]uint64, error) {
	names := map[string]uint64{}
	err := filepath.WalkDir(upper, func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p, err := filepath.Rel(upper, full)
		if err != nil {
			return err
		}
		names[p] = 0
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			names[p] = st.Nlink
		}
		return nil
	})
	return names, err
}
