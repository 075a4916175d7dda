package difftest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// WorkerEnv is the environment variable whose presence makes a test binary a
// worker; a TestMain asks IsWorker and calls RunWorker.
const WorkerEnv = "UNIONFS_DIFFTEST_WORKER"

// IsWorker tells whether this process was started to be a worker.
func IsWorker() bool { return os.Getenv(WorkerEnv) != "" }

// slots is how many handles a worker can hold.
const slots = 8

// worker does operations relative to its current directory.
type worker struct {
	handles [slots]handle
	now     time.Time // times within a day of it are shown as "now"
}

// handle is one open file or directory with its mappings.
type handle struct {
	open bool
	fd   int
	ino  uint64 // as fstat gave it after the open
	mem  []byte // mapping, nil when there is none
	// memOff is where in the file the mapping begins.
	memOff int64
	pass   *dirPass
}

// call does one operation and tells what it saw.
type call func(w *worker, op Op) (string, error)

// calls is filled by the worker_*.go files.
var calls = map[string]call{}

func register(m map[string]call) {
	for name, f := range m {
		calls[name] = f
	}
}

// RunWorker reads operations as JSON lines from r and answers each with a Result
// as a JSON line on w, until r ends.
func RunWorker(r io.Reader, w io.Writer) error {
	registerAll()
	unix.Umask(0o022)
	debug.SetPanicOnFault(true)
	wk := &worker{now: time.Now()}
	in := bufio.NewReader(r)
	out := json.NewEncoder(w)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read operation: %w", err)
		}
		var op Op
		if err := json.Unmarshal(line, &op); err != nil {
			return fmt.Errorf("read operation %q: %w", line, err)
		}
		if err := out.Encode(wk.do(op)); err != nil {
			return fmt.Errorf("answer operation: %w", err)
		}
	}
}

func registerAll() {
	register(pathCalls)
	register(handleCalls)
	register(memoryCalls)
	register(xattrCalls)
	register(dirCalls)
	register(map[string]call{"chdir": callChdir, "reset": callReset, "umask": callUmask})
}

func (w *worker) do(op Op) (res Result) {
	defer func() {
		// A fault in a mapping (SIGBUS beyond the end) arrives as a panic.
		if p := recover(); p != nil {
			res = Result{Err: "FAULT"}
			if !strings.Contains(fmt.Sprint(p), "fault") {
				res.Val = fmt.Sprint(p)
			}
		}
	}()
	f, ok := calls[op.Call]
	if !ok {
		return Result{Err: "BADCALL", Val: op.Call}
	}
	if op.FD < 0 || op.FD >= slots || op.FD2 < 0 || op.FD2 >= slots {
		return Result{Err: "BADSLOT"}
	}
	val, err := f(w, op)
	res = Result{Err: errName(err), Val: val}
	if op.Look {
		for _, p := range []string{op.Path, op.To} {
			if p != "" && (p != op.To || op.Call != "symlink") {
				res.Val += " look:" + w.look(p)
			}
		}
	}
	return res
}

func errName(err error) string {
	if err == nil {
		return ""
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if s := unix.ErrnoName(errno); s != "" {
			return s
		}
	}
	return err.Error()
}

// eintr calls f until it is not interrupted: the Go runtime's preemption
// signals would otherwise show as differences.
func eintr(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func callChdir(w *worker, op Op) (string, error) {
	if err := w.reset(); err != nil {
		return "", err
	}
	w.now = time.Now()
	return "", os.Chdir(op.Path)
}

func callReset(w *worker, _ Op) (string, error) {
	if err := w.reset(); err != nil {
		return "", err
	}
	unix.Umask(0o022)
	return "", os.Chdir("/")
}

func callUmask(_ *worker, op Op) (string, error) {
	return fmt.Sprintf("%04o", unix.Umask(int(op.Mode))), nil
}

func (w *worker) reset() error {
	for i := range w.handles {
		if err := w.closeSlot(i); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) closeSlot(i int) error {
	h := &w.handles[i]
	if !h.open {
		return nil
	}
	var err error
	if h.mem != nil {
		err = unix.Munmap(h.mem)
	}
	err = errors.Join(err, unix.Close(h.fd))
	*h = handle{}
	return err
}

// slot returns the descriptor of an open slot, or EBADF.
func (w *worker) slot(i int) (int, error) {
	if !w.handles[i].open {
		return -1, unix.EBADF
	}
	return w.handles[i].fd, nil
}
