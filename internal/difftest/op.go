package difftest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Op is one operation of a case: a system call and its arguments, in a form that
// can be stored as JSON and done again.
type Op struct {
	Proc  int    `json:"proc,omitempty"` // which worker does it, see Procs
	Call  string `json:"call"`
	Path  string `json:"path,omitempty"` // relative to the mountpoint
	To    string `json:"to,omitempty"`   // second path, or the target of a symlink
	FD    int    `json:"fd,omitempty"`   // handle slot of the worker
	FD2   int    `json:"fd2,omitempty"`
	Flags string `json:"flags,omitempty"` // names joined by |
	Mode  uint32 `json:"mode,omitempty"`
	UID   int    `json:"uid,omitempty"`
	GID   int    `json:"gid,omitempty"`
	Off   int64  `json:"off,omitempty"` // bytes; seconds for times
	Off2  int64  `json:"off2,omitempty"`
	Len   int64  `json:"len,omitempty"`  // bytes
	Name  string `json:"name,omitempty"` // attribute name
	Data  string `json:"data,omitempty"` // text, repeated up to Len bytes
	Hex   string `json:"hex,omitempty"`  // attribute value
	Look  bool   `json:"look,omitempty"` // stat Path and To afterwards
}

// opFields is Op without its methods.
type opFields Op

// MarshalJSON writes names that are no UTF-8, which JSON cannot hold, as quoted
// Go strings.
func (op Op) MarshalJSON() ([]byte, error) {
	op.Path, op.To = quoteBytes(op.Path), quoteBytes(op.To)
	return json.Marshal(opFields(op))
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (op *Op) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, (*opFields)(op)); err != nil {
		return err
	}
	for _, p := range []*string{&op.Path, &op.To} {
		if len(*p) > 0 && (*p)[0] == '"' {
			s, err := strconv.Unquote(*p)
			if err != nil {
				return fmt.Errorf("unquote %s: %w", *p, err)
			}
			*p = s
		}
	}
	return nil
}

func quoteBytes(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strconv.Quote(s)
}

// String is the operation as one line of JSON.
func (op Op) String() string {
	b, err := json.Marshal(op)
	if err != nil {
		return fmt.Sprintf("%+v", op.Call)
	}
	return string(b)
}

// Result is what an operation gave: the name of its errno, or what it observed.
type Result struct {
	Err string `json:"err,omitempty"`
	Val string `json:"val,omitempty"`
}

// String is the result as one line.
func (r Result) String() string {
	if r.Err == "" {
		return "ok " + r.Val
	}
	return strings.TrimSpace(r.Err + " " + r.Val)
}

// flagNames are the names that Op.Flags may hold.
var flagNames = map[string]int{
	"O_RDONLY": unix.O_RDONLY, "O_WRONLY": unix.O_WRONLY, "O_RDWR": unix.O_RDWR,
	"O_CREAT": unix.O_CREAT, "O_EXCL": unix.O_EXCL, "O_TRUNC": unix.O_TRUNC,
	"O_APPEND": unix.O_APPEND, "O_TMPFILE": unix.O_TMPFILE, "O_DIRECTORY": unix.O_DIRECTORY,
	"O_NOFOLLOW": unix.O_NOFOLLOW, "O_PATH": unix.O_PATH, "O_SYNC": unix.O_SYNC, "O_DIRECT": unix.O_DIRECT,
	"O_NOATIME":        unix.O_NOATIME,
	"RENAME_NOREPLACE": unix.RENAME_NOREPLACE, "RENAME_EXCHANGE": unix.RENAME_EXCHANGE,
	"RENAME_WHITEOUT": unix.RENAME_WHITEOUT,
	"SEEK_SET":        unix.SEEK_SET, "SEEK_CUR": unix.SEEK_CUR, "SEEK_END": unix.SEEK_END,
	"SEEK_DATA": unix.SEEK_DATA, "SEEK_HOLE": unix.SEEK_HOLE,
	"FALLOC_KEEP_SIZE": unix.FALLOC_FL_KEEP_SIZE, "FALLOC_PUNCH_HOLE": unix.FALLOC_FL_PUNCH_HOLE,
	"FALLOC_ZERO_RANGE": unix.FALLOC_FL_ZERO_RANGE, "FALLOC_COLLAPSE": unix.FALLOC_FL_COLLAPSE_RANGE,
	"XATTR_CREATE": unix.XATTR_CREATE, "XATTR_REPLACE": unix.XATTR_REPLACE,
	"MAP_SHARED": unix.MAP_SHARED, "MAP_PRIVATE": unix.MAP_PRIVATE, "PROT_WRITE": 0,
	"LOCK_SH": unix.LOCK_SH, "LOCK_EX": unix.LOCK_EX, "LOCK_UN": unix.LOCK_UN,
	"R_OK": unix.R_OK, "W_OK": unix.W_OK, "X_OK": unix.X_OK,
	"S_IFIFO": unix.S_IFIFO, "S_IFSOCK": unix.S_IFSOCK, "S_IFCHR": unix.S_IFCHR, "S_IFBLK": unix.S_IFBLK,
	"S_IFREG": unix.S_IFREG,
	"OMIT":    1, "NOW": 2,
}

func parseFlags(s string) (int, error) {
	v := 0
	for _, name := range strings.Split(s, "|") {
		if name == "" {
			continue
		}
		f, ok := flagNames[name]
		if !ok {
			return 0, fmt.Errorf("parse flags %q: unknown name %q", s, name)
		}
		v |= f
	}
	return v, nil
}
