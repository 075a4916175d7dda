package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrNoDaemon means that nobody answers for a mount: its daemon died, or it
// runs in another namespace or for another user.
var ErrNoDaemon = errors.New("no daemon answers")

// Client is one connection to a daemon. Its methods must not be called
// concurrently, but Close may be called at any time.
type Client struct {
	conn *net.UnixConn
	in   *bufio.Reader
	pid  int
}

// Dial connects to the daemon of the mount whose files have the given device
// number, as the mount table tells it. uid is the mount's user (user_id in the
// table); its sockets are looked for as well as those of the calling user.
// ErrNoDaemon: nobody answers. EACCES: it is another user's. The caller closes
// the client.
func Dial(major, minor uint32, uid int) (*Client, error) {
	name := socketName(major, minor)
	dirs := runtimeDirs(os.Geteuid())
	if uid != os.Geteuid() {
		dirs = append(dirs, runtimeDirs(uid)...)
	}
	var denied error
	for _, path := range dirs {
		c, err := dialIn(path, name, uid)
		if err == nil {
			return c, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			denied = err
		}
	}
	if denied != nil {
		return nil, fmt.Errorf("connect to the daemon: %w", denied)
	}
	return nil, fmt.Errorf("connect to the daemon: %w", ErrNoDaemon)
}

func dialIn(path, name string, uid int) (*Client, error) {
	f, err := openPrivate(path, false)
	if err != nil {
		return nil, err
	}
	d := Dir{f: f}
	defer d.Close() //nolint:errcheck // only read
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: d.path(name), Net: "unix"})
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, in: bufio.NewReader(conn)}
	// A directory that anybody can make (/tmp) proves nothing: the daemon must
	// run as this user, as root, or as the one whose mount it is.
	cred, err := peer(conn)
	if err == nil && int(cred.Uid) != os.Geteuid() && cred.Uid != 0 && int(cred.Uid) != uid {
		err = fmt.Errorf("the daemon runs as user %d: %w", cred.Uid, fs.ErrPermission)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c.pid = int(cred.Pid)
	return c, nil
}

// Close ends the connection, and with it a freeze.
func (c *Client) Close() error { return c.conn.Close() }

// PID is the daemon's process id in this process's namespace, 0 when it has
// none there.
func (c *Client) PID() int { return c.pid }

// Status asks what the mount is made of.
func (c *Client) Status(ctx context.Context) (Status, error) {
	resp, err := c.call(ctx, Request{Op: OpStatus})
	if err != nil {
		return Status{}, err
	}
	if resp.Status == nil {
		return Status{}, errors.New("status: the daemon's answer has none")
	}
	return *resp.Status, nil
}

// Freeze holds writes to the mount back, for at most d (zero: MaxFreeze), until
// Thaw or Close.
func (c *Client) Freeze(ctx context.Context, d time.Duration) error {
	_, err := c.call(ctx, Request{Op: OpFreeze, Millis: d.Milliseconds()})
	return err
}

// Thaw lets writes go on. An error says that they may have done so before.
func (c *Client) Thaw(ctx context.Context) error {
	_, err := c.call(ctx, Request{Op: OpThaw})
	return err
}

// Sync flushes everything to disk.
func (c *Client) Sync(ctx context.Context) error {
	_, err := c.call(ctx, Request{Op: OpSync})
	return err
}

// Stop makes the daemon unmount and end.
func (c *Client) Stop(ctx context.Context) error {
	_, err := c.call(ctx, Request{Op: OpStop})
	return err
}

// Watch asks to be told of the daemon's end. Once it has returned, the function
// it returns waits for that and gives the error of the last flush; a daemon that
// ends without saying how gives io.ErrUnexpectedEOF. The client can do nothing
// else from then on.
func (c *Client) Watch(ctx context.Context) (end func(context.Context) error, err error) {
	if _, err := c.call(ctx, Request{Op: OpWait}); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
		defer stop()
		_, err := c.receive(ctx, OpWait)
		return err
	}, nil
}

// call sends a request and reads its answer. When ctx ends first the connection
// is closed.
func (c *Client) call(ctx context.Context, req Request) (Response, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	line, err := json.Marshal(req)
	if err != nil {
		return Response{}, err
	}
	if _, err = c.conn.Write(append(line, '\n')); err != nil {
		return Response{}, c.broken(ctx, req.Op, err)
	}
	return c.receive(ctx, req.Op)
}

// receive reads one answer.
func (c *Client) receive(ctx context.Context, op Op) (Response, error) {
	line, err := c.in.ReadBytes('\n')
	if err != nil {
		return Response{}, c.broken(ctx, op, err)
	}
	var resp Response
	if err := json.Unmarshal(line, &resp); err != nil {
		return Response{}, fmt.Errorf("%s: read the daemon's answer: %w", op, err)
	}
	if resp.Error != "" {
		return Response{}, &RemoteError{Op: op, Msg: resp.Error, Errno: syscall.Errno(resp.Errno)}
	}
	return resp, nil
}

// broken is the error for a connection that failed.
func (c *Client) broken(ctx context.Context, op Op, err error) error {
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: talk to the daemon: %w", op, err)
}
