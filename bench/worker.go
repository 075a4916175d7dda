package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// Job is what a worker process does. The list of files it works on is read
// before the clock starts, which also makes their names and attributes warm.
type Job struct {
	// Kind is exec, parallel or one of the loops of worker_meta.go and
	// worker_data.go.
	Kind string `json:"kind"`
	// Path is the file or directory worked on; Other is a second name.
	Path  string `json:"path,omitempty"`
	Other string `json:"other,omitempty"`
	// Count is how many times, Size the bytes of one operation or of the file.
	Count int   `json:"count,omitempty"`
	Size  int64 `json:"size,omitempty"`
	// Sync makes each write (random), or the whole (sequential), durable.
	Sync bool `json:"sync,omitempty"`
	// Argv, Dir and Env (added to the worker's own) are the command of exec.
	Argv []string `json:"argv,omitempty"`
	Dir  string   `json:"dir,omitempty"`
	Env  []string `json:"env,omitempty"`
	// Clients is the number of processes of parallel, Sub what each does.
	Clients int  `json:"clients,omitempty"`
	Sub     *Job `json:"sub,omitempty"`
	// Gate makes the worker say "ready" and wait for a line before it starts.
	Gate bool `json:"gate,omitempty"`
}

// Outcome is what a worker prints: the time of the job alone and how many
// operations that were, or why it failed.
type Outcome struct {
	Nanoseconds int64  `json:"ns"`
	Ops         int    `json:"ops"`
	Error       string `json:"error,omitempty"`
}

// loops are the kinds of jobs that prepare something and return the timed part,
// which returns its number of operations.
var loops = map[string]func(Job) (func() (int, error), error){
	"stat":     statLoop,
	"negative": negativeLoop,
	"readlink": readlinkLoop,
	"open":     openLoop,
	"open-one": openOneLoop,
	"readdir":  readdirLoop,
	"rename":   renameOnce,
	"create":   createLoop,

	"read":         sequentialRead,
	"write":        sequentialWrite,
	"random-read":  randomRead,
	"random-write": randomWrite,
	"append":       appendLoop,
	"mmap":         mmapRead,

	"exec":     execJob,
	"parallel": parallelJob,
}

// Worker is the main function of a worker process: it reads one Job as JSON from
// in, does it and prints an Outcome to out. The error is nil when an Outcome was
// printed, also one that tells a failure.
func Worker(in io.Reader, out io.Writer) error {
	dec := json.NewDecoder(in)
	var job Job
	if err := dec.Decode(&job); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	if job.Kind == "hold" {
		return hold(dec, out)
	}
	result := perform(job, dec, out)
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return fmt.Errorf("print outcome: %w", err)
	}
	return nil
}

// hold keeps a namespace alive: it says that it is there and ends when its
// input does.
func hold(dec *json.Decoder, out io.Writer) error {
	if _, err := fmt.Fprintln(out, `"ready"`); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	var line string
	err := dec.Decode(&line)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func perform(job Job, dec *json.Decoder, out io.Writer) Outcome {
	prepare, ok := loops[job.Kind]
	if !ok {
		return Outcome{Error: fmt.Sprintf("no job of kind %q", job.Kind)}
	}
	timed, err := prepare(job)
	if err != nil {
		return Outcome{Error: err.Error()}
	}
	if job.Gate {
		var line string
		if _, err := fmt.Fprintln(out, `"ready"`); err != nil {
			return Outcome{Error: err.Error()}
		}
		if err := dec.Decode(&line); err != nil {
			return Outcome{Error: "wait for the start: " + err.Error()}
		}
	}
	start := time.Now()
	ops, err := timed()
	result := Outcome{Nanoseconds: time.Since(start).Nanoseconds(), Ops: ops}
	if err != nil {
		result.Error = err.Error()
	}
	return result
}

// execJob is a command; its output goes nowhere, the end of its messages into
// the error.
func execJob(job Job) (func() (int, error), error) {
	if len(job.Argv) == 0 {
		return nil, errors.New("exec without a command")
	}
	var messages tail
	cmd := exec.Command(job.Argv[0], job.Argv[1:]...)
	cmd.Dir = job.Dir
	cmd.Env = append(os.Environ(), job.Env...)
	cmd.Stderr = &messages
	return func() (int, error) {
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("run %s: %w: %s", job.Argv[0], err, messages.String())
		}
		return 1, nil
	}, nil
}

// parallelJob runs the same job in several processes that start together.
func parallelJob(job Job) (func() (int, error), error) {
	if job.Sub == nil || job.Clients < 1 {
		return nil, errors.New("parallel without a job")
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own binary: %w", err)
	}
	var clients []*client
	for i := range job.Clients {
		sub := *job.Sub
		sub.Gate = true
		if sub.Other != "" {
			sub.Other = fmt.Sprintf("%s%d", sub.Other, i)
		}
		c, err := startClient(exec.Command(exe, os.Args[1:]...), sub)
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
	}
	return func() (int, error) {
		var failed error
		for _, c := range clients {
			failed = errors.Join(failed, c.start())
		}
		ops := 0
		for _, c := range clients {
			result, err := c.finish()
			ops += result.Ops
			failed = errors.Join(failed, err)
		}
		return ops, failed
	}, nil
}
