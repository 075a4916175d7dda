package fs

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Server is a filesystem that is mounted.
type Server struct {
	dir  string
	done chan struct{}
}

// maxRequest is the size in bytes of the largest READ and WRITE.
const maxRequest = 1 << 20

// maxBackground is how many asynchronous requests (read-ahead, forgets) the
// kernel may have under way; its default of 12 starves read-ahead.
const maxBackground = 64

// Mount mounts the filesystem on the directory dir and returns when the mount
// answers. Who may mount(2) does so directly; others go through fusermount3.
// Errors name the directory. It can be called once.
func (f *FS) Mount(dir string, m MountOptions) (*Server, error) {
	if f.readOnly() {
		m.Options = append(m.Options[:len(m.Options):len(m.Options)], "ro")
	}
	t, err := f.connect(dir, &m)
	if err != nil {
		return nil, fmt.Errorf("mount on %s: %w", dir, err)
	}
	if f.passthrough {
		if err := f.probePassthrough(t); err != nil {
			_ = unmountFUSE(dir) // the error to report is the first one
			t.serve()
			return nil, fmt.Errorf("mount on %s: io=passthrough: %w", dir, err)
		}
	}
	kind, why := t.kind()
	f.log.Debug("transport", "transport", kind, "reason", why)
	f.notify.start(t)
	srv := &Server{dir: dir, done: make(chan struct{})}
	go func() {
		t.serve()
		f.notify.stop()
		close(srv.done)
	}()
	return srv, nil
}

// connect mounts on dir by the first transport wished for that can be had.
func (f *FS) connect(dir string, m *MountOptions) (transport, error) {
	wishes := wishesFor(m.Transport)
	for i, w := range wishes {
		fd, err := mountFUSE(dir, m)
		if err != nil {
			return nil, err
		}
		t, err := f.newTransport(fd, w, m)
		if err == nil {
			return t, nil
		}
		_ = unmountFUSE(dir) // the error to report is the first one
		err = fmt.Errorf("transport %s: %w", w.kind, err)
		if i == len(wishes)-1 {
			return nil, err
		}
		f.log.Warn("falling back to another transport", "err", err)
	}
	return nil, unix.EINVAL // there is always a wish
}

// fuseOptions is what the kernel is told in the reply to its first request.
func (f *FS) fuseOptions(m *MountOptions) *fuse.MountOptions {
	logger := log.New(io.Discard, "", 0)
	if m.Debug {
		logger = log.New(os.Stderr, "", log.Lmicroseconds)
	}
	caps := uint64(fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_NO_OPENDIR_SUPPORT |
		fuse.CAP_DONT_MASK | fuse.CAP_EXPORT_SUPPORT | fuse.CAP_IOCTL_DIR | fuse.CAP_ASYNC_DIO |
		fuse.CAP_SETXATTR_EXT)
	disabled := uint64(fuse.CAP_PASSTHROUGH)
	if f.passthrough {
		// With passthrough the kernel refuses the writeback cache.
		disabled = fuse.CAP_WRITEBACK_CACHE
		caps |= fuse.CAP_PASSTHROUGH | fuse.CAP_ATOMIC_O_TRUNC
	} else if m.Writeback && !f.readOnly() {
		caps |= fuse.CAP_WRITEBACK_CACHE
		f.writeback.Store(true)
	}
	return &fuse.MountOptions{
		Name:                     subtype,
		Debug:                    m.Debug,
		Logger:                   logger,
		MaxWrite:                 maxRequest,
		MaxReadAhead:             maxRequest,
		MaxBackground:            maxBackground,
		EnableSymlinkCaching:     true,
		EnableAcl:                !f.cfg.NoACL,
		ExplicitDataCacheControl: true,
		DisableSplice:            true,
		ExtraCapabilities:        caps,
		DisabledCapabilities:     disabled,
		MaxStackDepth:            1,
		PanicHandler:             f.panicked,
	}
}

// panicked keeps the daemon alive when a handler failed: the mount would be
// unreachable without it.
func (f *FS) panicked(v any) fuse.Status {
	f.log.Error("internal error in a request", "panic", v)
	return fuse.EIO
}

// Wait returns when the filesystem is unmounted and the last request answered.
func (s *Server) Wait() { <-s.done }

// Unmount unmounts. EBUSY: something in the mount is in use.
func (s *Server) Unmount() error {
	if err := unmountFUSE(s.dir); err != nil {
		return fmt.Errorf("unmount %s: %w", s.dir, err)
	}
	return nil
}
