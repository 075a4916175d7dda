package difftest

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// memoryCalls are the operations on mappings; each slot has at most one.
var memoryCalls = map[string]call{
	"mmap":   callMmap,
	"munmap": callMunmap,
	"mread":  callMread,
	"mwrite": callMwrite,
	"msync":  callMsync,
}

// callMmap maps Len bytes at Off of a handle. PROT_WRITE is asked for with a
// non-zero Mode.
func callMmap(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	flags, err := parseFlags(op.Flags)
	if err != nil {
		return "", err
	}
	h := &w.handles[op.FD]
	if h.mem != nil {
		if err := unix.Munmap(h.mem); err != nil {
			return "", err
		}
		h.mem = nil
	}
	prot := unix.PROT_READ
	if op.Mode != 0 {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(fd, op.Off, int(op.Len), prot, flags)
	if err != nil {
		return "", err
	}
	h.mem, h.memOff = mem, op.Off
	return "", nil
}

func callMunmap(w *worker, op Op) (string, error) {
	h := &w.handles[op.FD]
	if h.mem == nil {
		return "", unix.EINVAL
	}
	err := unix.Munmap(h.mem)
	h.mem = nil
	return "", err
}

// window is the part of a mapping that an operation speaks of.
func (w *worker) window(op Op) ([]byte, error) {
	mem := w.handles[op.FD].mem
	if op.Len == 0 {
		op.Len = int64(len(op.Data))
	}
	if op.Off < 0 || op.Len < 0 || op.Off+op.Len > int64(len(mem)) {
		return nil, unix.EINVAL
	}
	return mem[op.Off : op.Off+op.Len], nil
}

func callMread(w *worker, op Op) (string, error) {
	win, err := w.window(op)
	if err != nil {
		return "", err
	}
	mapped := append([]byte(nil), win...)
	text := dataText(mapped)
	// A mapping that does not show what the file now holds is "stale".
	h := &w.handles[op.FD]
	buf := make([]byte, len(mapped))
	_, err = unix.Pread(h.fd, buf, h.memOff+op.Off)
	// What lies beyond the file's end reads as zeros.
	if err == nil && !bytes.Equal(buf, mapped) {
		text += staleMark
	}
	return text, nil
}

const staleMark = " stale"

func callMwrite(w *worker, op Op) (string, error) {
	win, err := w.window(op)
	if err != nil {
		return "", err
	}
	// PROT_READ mappings fault, which do answers as FAULT.
	copy(win, pattern(op))
	return "", nil
}

func callMsync(w *worker, op Op) (string, error) {
	h := &w.handles[op.FD]
	if h.mem == nil {
		return "", unix.EINVAL
	}
	return "", eintr(func() error { return unix.Msync(h.mem, unix.MS_SYNC) })
}
