package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// client is a worker process seen from outside.
type client struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	dec *json.Decoder
	err tail
}

// workerEnv keeps the runtime of a worker from disturbing what it times: no
// signals for preemption (FUSE answers a signal with an INTERRUPT message) and
// no garbage collection.
var workerEnv = []string{"GODEBUG=asyncpreemptoff=1", "GOGC=off"}

// startClient starts a worker with its job and waits until it is ready when the
// job has a gate or holds a namespace.
func startClient(cmd *exec.Cmd, job Job) (*client, error) {
	c := &client{cmd: cmd}
	cmd.Env = append(os.Environ(), workerEnv...)
	cmd.Stderr = &c.err
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	c.in, c.dec = in, json.NewDecoder(out)
	if err := json.NewEncoder(in).Encode(job); err != nil {
		return nil, c.abandon(fmt.Errorf("send job: %w", err))
	}
	if !job.Gate && job.Kind != "hold" {
		return c, nil
	}
	var answer json.RawMessage
	if err := c.dec.Decode(&answer); err != nil {
		return nil, c.abandon(fmt.Errorf("wait for worker: %w", err))
	}
	if string(answer) != `"ready"` {
		var result Outcome
		if err := json.Unmarshal(answer, &result); err != nil {
			return nil, c.abandon(fmt.Errorf("read worker's answer: %w", err))
		}
		return nil, c.abandon(errors.New(result.Error))
	}
	return c, nil
}

// abandon ends the worker and adds its messages to err.
func (c *client) abandon(err error) error {
	c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	if text := c.err.String(); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// start lets a worker behind its gate begin.
func (c *client) start() error {
	if _, err := io.WriteString(c.in, "\"go\"\n"); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	return nil
}

// finish waits for the outcome and the end of the worker.
func (c *client) finish() (Outcome, error) {
	var result Outcome
	if err := c.dec.Decode(&result); err != nil {
		return result, c.abandon(fmt.Errorf("read worker's outcome: %w", err))
	}
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		return result, fmt.Errorf("worker: %w: %s", err, c.err.String())
	}
	if result.Error != "" {
		return result, errors.New(result.Error)
	}
	return result, nil
}

// tail keeps the last bytes written to it.
type tail struct{ buf []byte }

const tailSize = 400

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailSize {
		t.buf = t.buf[len(t.buf)-tailSize:]
	}
	return len(p), nil
}

// String is what was kept, as one line.
func (t *tail) String() string {
	return strings.Join(strings.Fields(string(t.buf)), " ")
}
