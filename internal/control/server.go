package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxFreeze is how long writes can be held back at most by one freeze.
const MaxFreeze = 10 * time.Minute

// maxRequest is the size of the longest line a client may send, in bytes.
const maxRequest = 64 << 10

// Handlers are what the operations do. They are called concurrently, but Freeze
// and Thaw in turn.
type Handlers struct {
	Status func() (Status, error)
	Freeze func(ctx context.Context) error // returns when no write is under way
	Thaw   func()
	Sync   func() error
	Stop   func() error // begins to unmount; need not wait for the end
}

// Server answers on the socket of one mount.
type Server struct {
	handlers Handlers
	ln       *net.UnixListener
	path     string        // of the socket, through the directory's descriptor
	self     os.FileInfo   // of the socket
	frozen   chan struct{} // holds one token: who has it may freeze
	ended    chan struct{} // closed by Finish
	wg       sync.WaitGroup

	ending context.Context    // ends with Quiesce
	quiet  context.CancelFunc // ends ending
	ops    sync.RWMutex       // held shared by operations; taken before mu

	mu    sync.Mutex
	drop  func() bool       // guarded by mu: ends the freeze there is; nil without one
	final error             // guarded by mu: result of the daemon, set by Finish
	conns map[net.Conn]bool // guarded by mu: value is true while a wait is to be answered
}

// Listen opens the socket of the mount whose files have the given device number
// and begins to answer. What is there under the name belongs to a mount that is
// gone, as no two live ones have the same number: a daemon that died, or one
// that has not quite ended. The directory must stay open until Finish.
func (d *Dir) Listen(major, minor uint32, h Handlers) (*Server, error) {
	path := d.path(socketName(major, minor))
	awaitGone(path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove a stale control socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	s := &Server{
		handlers: h, ln: ln, path: path,
		frozen: make(chan struct{}, 1), ended: make(chan struct{}), conns: make(map[net.Conn]bool),
	}
	if s.self, err = os.Lstat(path); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	s.ending, s.quiet = context.WithCancel(context.Background())
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

// awaitGone gives a daemon that is just ending a moment to take its name away.
func awaitGone(path string) {
	for range 50 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return
		}
		_ = conn.Close()
		time.Sleep(10 * time.Millisecond)
	}
}

// removeName takes the socket's name away, unless it is another's by now.
func (s *Server) removeName() {
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.self) {
		_ = os.Remove(s.path)
	}
}

// errEnding answers operations that come too late.
var errEnding = fmt.Errorf("the mount is ending: %w", syscall.ESHUTDOWN)

// Quiesce is for a mount that is gone: its device number may be another's at
// any time, so the socket's name goes first. Then no handler is called any more:
// a freeze is dropped, operations under way are waited for, and later ones fail.
// Clients that are connected can still wait for the end.
func (s *Server) Quiesce() {
	s.removeName()
	s.quiet()
	s.ops.Lock()
	defer s.ops.Unlock()
	s.mu.Lock()
	drop := s.drop
	s.mu.Unlock()
	if drop != nil {
		drop()
	}
}

// Finish does what Quiesce does, answers every wait with err, the result of the
// daemon's work, and closes all connections. It must be called once, when
// everything else is done.
func (s *Server) Finish(err error) {
	s.Quiesce()
	s.mu.Lock()
	s.final = err
	close(s.ended)
	s.mu.Unlock()
	_ = s.ln.Close()
	s.mu.Lock()
	for c, waits := range s.conns {
		if !waits {
			_ = c.Close()
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		conn, err := s.ln.AcceptUnix()
		if err != nil {
			select {
			case <-s.ended:
				return
			default:
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, or a client that went away: try again.
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if !admitted(conn) {
			_ = conn.Close()
			continue
		}
		if !s.enter(conn) {
			_ = conn.Close()
			return
		}
		go s.serve(conn)
	}
}

// enter counts a connection; false after Finish.
func (s *Server) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		return false
	default:
	}
	s.conns[c] = false
	s.wg.Add(1)
	return true
}

// admitted tells whether the other end runs as this user or as root.
func admitted(conn *net.UnixConn) bool {
	cred, err := peer(conn)
	return err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
}

// peer returns the credentials of the other end as this process's namespaces
// show them.
func peer(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return nil, err
	}
	return cred, credErr
}

// session is one connection.
type session struct {
	server *Server
	conn   net.Conn
	thaw   func() error // ends the session's freeze; nil without one
}

func (s *Server) serve(conn net.Conn) {
	defer s.wg.Done()
	ctx, cancel := context.WithCancel(context.Background())
	ses := &session{server: s, conn: conn}
	// Lines are read ahead of their answers, so that the end of the connection
	// is seen while an operation runs.
	lines := make(chan []byte)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer close(lines)
		defer cancel()
		sc := bufio.NewScanner(conn)
		sc.Buffer(nil, maxRequest)
		for sc.Scan() {
			select {
			case lines <- append([]byte(nil), sc.Bytes()...):
			case <-ctx.Done():
				return
			}
		}
	}()
	enc := json.NewEncoder(conn)
	for line := range lines {
		var req Request
		var resp Response
		if err := json.Unmarshal(line, &req); err != nil {
			resp = fail(fmt.Errorf("not a request: %w", err))
		} else {
			if req.Op == OpWait {
				s.markWaiting(conn)
				if enc.Encode(Response{}) != nil {
					break
				}
			}
			resp = ses.do(ctx, req)
		}
		if enc.Encode(resp) != nil || req.Op == OpWait {
			break
		}
	}
	cancel()
	_ = conn.Close()
	for range lines { // until the reader has seen the end
	}
	if ses.thaw != nil {
		_ = ses.thaw()
	}
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
}

// do performs one request.
func (ses *session) do(ctx context.Context, req Request) Response {
	s := ses.server
	if req.Op == OpWait {
		return fail(s.awaitEnd(ctx))
	}
	s.ops.RLock()
	defer s.ops.RUnlock()
	if s.ending.Err() != nil {
		return fail(errEnding)
	}
	switch req.Op {
	case OpStatus:
		st, err := s.handlers.Status()
		if err != nil {
			return fail(err)
		}
		return Response{Status: &st}
	case OpFreeze:
		return fail(ses.freeze(ctx, time.Duration(req.Millis)*time.Millisecond))
	case OpThaw:
		if ses.thaw == nil {
			return fail(errors.New("nothing is frozen by this connection"))
		}
		thaw := ses.thaw
		ses.thaw = nil
		return fail(thaw())
	case OpSync:
		return fail(s.handlers.Sync())
	case OpStop:
		return fail(s.handlers.Stop())
	case OpWait: // done above
	}
	return fail(fmt.Errorf("unknown operation %q: %w", req.Op, syscall.EOPNOTSUPP))
}

// freeze holds writes back for at most d. Another connection's freeze is waited
// for.
func (ses *session) freeze(ctx context.Context, d time.Duration) error {
	s := ses.server
	if ses.thaw != nil {
		return errors.New("already frozen by this connection")
	}
	if d <= 0 || d > MaxFreeze {
		d = MaxFreeze
	}
	select {
	case s.frozen <- struct{}{}:
	case <-s.ending.Done():
		return errEnding
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	if err := s.handlers.Freeze(ctx); err != nil {
		<-s.frozen
		return err
	}
	var once sync.Once
	drop := func() (dropped bool) {
		once.Do(func() {
			s.handlers.Thaw()
			s.setDrop(nil)
			<-s.frozen
			dropped = true
		})
		return dropped
	}
	s.setDrop(drop)
	timer := time.AfterFunc(d, func() { drop() })
	ses.thaw = func() error {
		timer.Stop()
		if !drop() {
			return fmt.Errorf("the freeze had ended by itself after %v", d)
		}
		return nil
	}
	return nil
}

func (s *Server) setDrop(drop func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop = drop
}

// markWaiting keeps Finish from closing a connection that waits for the end.
func (s *Server) markWaiting(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = true
}

// awaitEnd returns the result of the daemon once Finish was called.
func (s *Server) awaitEnd(ctx context.Context) error {
	select {
	case <-s.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.final
}
