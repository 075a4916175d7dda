package difftest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// Procs are the workers of a case: two of root and one plain user.
var Procs = []syscall.Credential{
	{Uid: 0, Gid: 0},
	{Uid: 0, Gid: 0},
	{Uid: 1000, Gid: 1000, Groups: []uint32{1000, 2000}},
}

// opTimeout bounds one operation: what takes longer hangs.
const opTimeout = 120 * time.Second

// Workers are the processes that act on one target at a time.
type Workers struct {
	procs []*workerProc
	bad   atomic.Bool // one is gone or hangs
}

type workerProc struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan []byte // closed when the process ends
}

// StartWorkers starts one worker per entry of Procs. The caller must Stop them.
func StartWorkers() (*Workers, error) {
	w := &Workers{}
	for i := range Procs {
		p, err := startWorker(&Procs[i])
		if err != nil {
			return nil, errors.Join(err, w.Stop())
		}
		w.procs = append(w.procs, p)
	}
	return w, nil
}

func startWorker(cred *syscall.Credential) (*workerProc, error) {
	// The binary may lie where other users cannot go; a descriptor of it
	// can be run by anyone.
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	defer exe.Close() //nolint:errcheck // only read
	cmd := exec.Command("/proc/self/fd/3")
	cmd.Args = []string{"difftest-worker", "-test.run=^$"}
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), WorkerEnv+"=1", "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	if cred.Uid != uint32(os.Geteuid()) || cred.Groups != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	p := &workerProc{cmd: cmd, in: in, lines: make(chan []byte, 1)}
	go func() {
		defer close(p.lines)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			p.lines <- line
		}
	}()
	return p, nil
}

// Stop ends all workers.
func (w *Workers) Stop() error {
	var errs []error
	for _, p := range w.procs {
		errs = append(errs, p.in.Close())
		select {
		case <-p.lines:
		case <-time.After(opTimeout):
			errs = append(errs, p.cmd.Process.Kill())
		}
		if err := p.cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("worker: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Well tells that all workers have answered so far.
func (w *Workers) Well() bool { return !w.bad.Load() }

// Do runs one operation in its worker. An error means that the worker is gone
// or hangs, which is not something an operation may do.
func (w *Workers) Do(op Op) (Result, error) {
	res, err := w.do(op)
	if err != nil {
		w.bad.Store(true)
	}
	return res, err
}

func (w *Workers) do(op Op) (Result, error) {
	if op.Proc < 0 || op.Proc >= len(w.procs) {
		return Result{}, fmt.Errorf("operation %s: no worker %d", op, op.Proc)
	}
	p := w.procs[op.Proc]
	b, err := json.Marshal(op)
	if err != nil {
		return Result{}, fmt.Errorf("operation %s: %w", op, err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return Result{}, fmt.Errorf("operation %s: %w", op, err)
	}
	select {
	case line, ok := <-p.lines:
		if !ok {
			return Result{}, fmt.Errorf("operation %s: the worker ended", op)
		}
		var res Result
		if err := json.Unmarshal(line, &res); err != nil {
			return Result{}, fmt.Errorf("operation %s: answer %q: %w", op, line, err)
		}
		return res, nil
	case <-time.After(opTimeout):
		return Result{}, fmt.Errorf("operation %s: hangs", op)
	}
}

// All runs one operation in every worker; it must succeed.
func (w *Workers) All(op Op) error {
	for i := range w.procs {
		op.Proc = i
		res, err := w.Do(op)
		if err == nil && res.Err != "" {
			err = fmt.Errorf("operation %s: %s", op, res)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
