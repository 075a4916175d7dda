package fs

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// Server is a filesystem that is mounted.
type Server struct {
	fuse *fuse.Server
	dir  string
	done chan struct{}
}

// maxRequest is the size in bytes of the largest READ and WRITE.
const maxRequest = 1 << 20

// maxBackground is how many asynchronous requests (read-ahead, forgets) the
// kernel may have under way; its default of 12 starves read-ahead.
const maxBackground = 64

// mountFlags are the generic mount options that are flags of mount(2).
var mountFlags = map[string]struct {
	flag  uintptr
	clear bool
}{
	"ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"sync": {unix.MS_SYNCHRONOUS, false}, "async": {unix.MS_SYNCHRONOUS, true},
	"dirsync": {unix.MS_DIRSYNC, false},
	"noatime": {unix.MS_NOATIME, false}, "atime": {unix.MS_NOATIME, true},
	"nodiratime": {unix.MS_NODIRATIME, false}, "diratime": {unix.MS_NODIRATIME, true},
	"relatime": {unix.MS_RELATIME, false}, "norelatime": {unix.MS_RELATIME, true},
	"strictatime": {unix.MS_STRICTATIME, false}, "nostrictatime": {unix.MS_STRICTATIME, true},
	"lazytime": {unix.MS_LAZYTIME, false}, "nolazytime": {unix.MS_LAZYTIME, true},
}

// Mount mounts the filesystem on the directory dir and returns when the mount
// answers. Who may mount(2) does so directly; others go through fusermount3.
// Errors name the directory. It can be called once.
func (f *FS) Mount(dir string, m MountOptions) (*Server, error) {
	if f.readOnly() {
		m.Options = append(m.Options[:len(m.Options):len(m.Options)], "ro")
	}
	s, err := fuse.NewServer(newRaw(f), dir, f.fuseOptions(&m))
	if err != nil {
		return nil, fmt.Errorf("mount on %s: %w", dir, err)
	}
	srv := &Server{fuse: s, dir: dir, done: make(chan struct{})}
	go func() {
		s.Serve()
		close(srv.done)
	}()
	if err := s.WaitMount(); err != nil {
		_ = s.Unmount()
		return nil, fmt.Errorf("mount on %s: wait until it answers: %w", dir, err)
	}
	return srv, nil
}

func (f *FS) fuseOptions(m *MountOptions) *fuse.MountOptions {
	direct := canMount()
	flags := uintptr(0)
	var rest []string
	for _, o := range m.Options {
		mf, ok := mountFlags[o]
		switch {
		case !ok, !direct:
			rest = append(rest, o)
		case mf.clear:
			flags &^= mf.flag
		default:
			flags |= mf.flag
		}
	}
	if m.DefaultPermissions {
		rest = append(rest, "default_permissions")
	}
	logger := log.New(io.Discard, "", 0)
	if m.Debug {
		logger = log.New(os.Stderr, "", log.Lmicroseconds)
	}
	caps := uint64(fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_NO_OPENDIR_SUPPORT |
		fuse.CAP_DONT_MASK | fuse.CAP_EXPORT_SUPPORT | fuse.CAP_IOCTL_DIR | fuse.CAP_ASYNC_DIO |
		fuse.CAP_SETXATTR_EXT)
	return &fuse.MountOptions{
		Name:                     "unionfs",
		FsName:                   m.Source,
		Options:                  rest,
		AllowOther:               m.AllowOther,
		Debug:                    m.Debug,
		Logger:                   logger,
		MaxWrite:                 maxRequest,
		MaxReadAhead:             maxRequest,
		MaxBackground:            maxBackground,
		EnableSymlinkCaching:     true,
		EnableAcl:                !f.cfg.NoACL,
		ExplicitDataCacheControl: true,
		DisableSplice:            true,
		DirectMountStrict:        direct,
		DirectMountFlags:         flags | unix.MS_MGC_VAL,
		ExtraCapabilities:        caps,
		DisabledCapabilities:     fuse.CAP_PASSTHROUGH,
		PanicHandler:             f.panicked,
	}
}

// panicked keeps the daemon alive when a handler failed: the mount would be
// unreachable without it.
func (f *FS) panicked(v any) fuse.Status {
	f.log.Error("internal error in a request", "panic", v)
	return fuse.EIO
}

// canMount tells whether this process may call mount(2): it has CAP_SYS_ADMIN
// in the user namespace of its mount namespace.
func canMount() bool { return sysAdmin }

// Wait returns when the filesystem is unmounted and the last request answered.
func (s *Server) Wait() { <-s.done }

// Unmount unmounts. EBUSY: something in the mount is in use.
func (s *Server) Unmount() error {
	if canMount() {
		if err := unix.Unmount(s.dir, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", s.dir, err)
		}
		return nil
	}
	if err := s.fuse.Unmount(); err != nil {
		return fmt.Errorf("unmount %s: %w", s.dir, err)
	}
	return nil
}

var sysAdmin = sys.HasCap(unix.CAP_SYS_ADMIN)
