package difftest

import (
	"encoding/hex"
	"fmt"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrCalls are the operations on extended attributes. Paths are not followed.
var xattrCalls = map[string]call{
	"setxattr": func(_ *worker, op Op) (string, error) {
		v, flags, err := xattrArgs(op)
		if err != nil {
			return "", err
		}
		return keptIno(op.Path, func() error {
			return eintr(func() error { return unix.Lsetxattr(op.Path, op.Name, v, flags) })
		})
	},
	"getxattr": func(_ *worker, op Op) (string, error) {
		return xattrValue(func(b []byte) (int, error) { return unix.Lgetxattr(op.Path, op.Name, b) })
	},
	"listxattr": func(_ *worker, op Op) (string, error) {
		return xattrNames(func(b []byte) (int, error) { return unix.Llistxattr(op.Path, b) })
	},
	"removexattr": func(_ *worker, op Op) (string, error) {
		return keptIno(op.Path, func() error {
			return eintr(func() error { return unix.Lremovexattr(op.Path, op.Name) })
		})
	},
	"fsetxattr": func(w *worker, op Op) (string, error) {
		fd, err := w.slot(op.FD)
		if err != nil {
			return "", err
		}
		v, flags, err := xattrArgs(op)
		if err != nil {
			return "", err
		}
		return "", eintr(func() error { return unix.Fsetxattr(fd, op.Name, v, flags) })
	},
	"fgetxattr": func(w *worker, op Op) (string, error) {
		fd, err := w.slot(op.FD)
		if err != nil {
			return "", err
		}
		return xattrValue(func(b []byte) (int, error) { return unix.Fgetxattr(fd, op.Name, b) })
	},
	"flistxattr": func(w *worker, op Op) (string, error) {
		fd, err := w.slot(op.FD)
		if err != nil {
			return "", err
		}
		return xattrNames(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	},
	"fremovexattr": onHandle(func(fd int, op Op) error { return unix.Fremovexattr(fd, op.Name) }),
}

func xattrArgs(op Op) (value []byte, flags int, err error) {
	if flags, err = parseFlags(op.Flags); err != nil {
		return nil, 0, err
	}
	if op.Hex != "" {
		value, err = hex.DecodeString(op.Hex)
		return value, flags, err
	}
	if op.Data == "" {
		return nil, flags, nil
	}
	return pattern(op), flags, nil
}

// xattrValue reads an attribute with two buffer sizes, as programs do: the size
// first, then the value.
func xattrValue(get func([]byte) (int, error)) (string, error) {
	size := 0
	err := eintr(func() (err error) { size, err = get(nil); return err })
	if err != nil {
		return "", err
	}
	buf := make([]byte, size+1)
	n := 0
	if err := eintr(func() (err error) { n, err = get(buf); return err }); err != nil {
		return "second read", err
	}
	if n != size {
		return fmt.Sprintf("size %d then %d", size, n), nil
	}
	return hex.EncodeToString(buf[:n]), nil
}

func xattrNames(list func([]byte) (int, error)) (string, error) {
	size := 0
	err := eintr(func() (err error) { size, err = list(nil); return err })
	if err != nil || size == 0 {
		return "", err
	}
	buf := make([]byte, size+1)
	n := 0
	if err := eintr(func() (err error) { n, err = list(buf); return err }); err != nil {
		return "second read", err
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	sort.Strings(names)
	return strings.Join(names, ","), nil
}
