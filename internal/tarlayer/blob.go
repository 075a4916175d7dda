package tarlayer

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// identity tells one state of one file from every other: changing the content
// changes it, unless times are set back and content is made to fit.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // nanoseconds
}

func fileIdentity(f *os.File) (identity, error) {
	fi, err := f.Stat()
	if err != nil {
		return identity{}, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() {
		return identity{}, fmt.Errorf("%s is no regular file: %w", f.Name(), ErrInvalid)
	}
	return identity{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, nil
}

// sameContent tells whether a file in state id still holds what it held in
// state old. The change time alone does not count: linking, unlinking and
// chmod move it, and every span is checked against its sum anyhow.
func (id identity) sameContent(old identity) bool {
	id.ctime, old.ctime = 0, 0
	return id == old
}

// settle is how long a change may go without moving a file's change time: the
// clock that filesystems take times from ticks every 10 ms at worst.
const settle = 50 * time.Millisecond

// settledIdentity is fileIdentity, at a time when any later change of the file
// is sure to give it another identity.
func settledIdentity(f *os.File) (identity, error) {
	id, err := fileIdentity(f)
	if err != nil {
		return id, err
	}
	age := time.Since(time.Unix(0, max(id.mtime, id.ctime)))
	if age < 0 || age >= settle {
		return id, nil
	}
	time.Sleep(settle - age)
	return fileIdentity(f)
}

// blob is the compressed file, wherever it lies.
type blob struct {
	r    io.ReaderAt
	size int64
	name string
	file *os.File // nil for a reader that the caller owns
	id   identity // of file, when it was opened

	log     func(string, ...any)
	changed atomic.Bool // it was seen to have changed
}

// unchanged tells whether the file is in the state in which it was opened.
func (b *blob) unchanged() bool {
	if b.file == nil {
		return true
	}
	id, err := fileIdentity(b.file)
	return err == nil && id.sameContent(b.id)
}

// check is unchanged, for a layer in use: what changed once stays changed, and
// is logged.
func (b *blob) check() bool {
	if b.file == nil {
		return true
	}
	if b.changed.Load() {
		return false
	}
	if b.unchanged() {
		return true
	}
	if !b.changed.Swap(true) {
		b.log("%s: the layer's file was changed while in use; its files give EIO from now on: mount again", b.name)
	}
	return false
}

func (b *blob) close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}
