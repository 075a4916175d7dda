package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/cow"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// FS is one union filesystem. It is made by New, mounted once with Mount and
// ended with Close.
type FS struct {
	cfg    Config
	own    *ownership // nil: owners and modes are as on disk; immutable
	log    *slog.Logger
	lowers *stack.Stack // the read-only layers; immutable

	upperFD  int          // the upper directory (O_PATH) or -1; immutable
	upperDev uint64       // immutable
	work     *cow.Workdir // nil without upper; immutable
	indexFD  int          // workdir/index or -1; immutable
	style    whiteout.Style
	foreign  bool // the upper holds marks of AUFS, see convert.go; immutable

	dirFDs  *sys.FDCache // descriptors of upper directories
	dataFDs *sys.FDCache // descriptors that file data is read and written through

	inos    inoMap
	origins []originFS // immutable

	nodes *table
	root  *node

	treeMu sync.RWMutex // the shape of the tree; see doc.go

	writeback   atomic.Bool // the kernel collects writes; set when mounted
	passthrough bool        // io=passthrough; immutable
	backer      backer      // registers backing files, with passthrough; set when mounted

	gate   sync.RWMutex // held shared by everything that changes the upper
	frozen atomic.Bool
	// freezing counts freezes, from before they take the gate until they end.
	freezing atomic.Int32

	copyMu  sync.Mutex
	copying map[*node]*copyCall // copy-ups under way; guarded by copyMu

	notify notifier
	msgs   counters
}

// Limits of the descriptor caches, as parts of what the process may open.
const (
	minFDs     = 64
	dirFDPart  = 4
	dataFDPart = 2
)

// New opens the upper and the workdir, takes their locks, cleans what a killed
// mount left, and returns a filesystem to be mounted. Errors wrap cow.ErrInUse,
// cow.ErrOtherFilesystem, cow.ErrVolatile or an errno, and name the path. On
// error the layers in cfg are closed.
func New(cfg Config) (f *FS, err error) {
	f = &FS{
		cfg: cfg, log: cfg.Log, upperFD: -1, indexFD: -1,
		nodes: newTable(), copying: make(map[*node]*copyCall),
		passthrough: cfg.IO == IOPassthrough,
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	f.own = newOwnership(cfg.Ownership)
	if len(cfg.Lowers) > stack.MaxLayers {
		return f, fmt.Errorf("%d layers: at most %d can be stacked: %w", len(cfg.Lowers), stack.MaxLayers, unix.E2BIG)
	}
	limit := fileLimit()
	f.dirFDs = sys.NewFDCache(max(limit/dirFDPart, minFDs))
	f.dataFDs = sys.NewFDCache(max(limit/dataFDPart, minFDs))
	f.lowers = stack.New(cfg.Lowers)
	if cfg.Upper != "" {
		if err := f.openUpper(); err != nil {
			return f, err
		}
	}
	if f.upperFD < 0 && len(cfg.Lowers) == 0 {
		return f, fmt.Errorf("make filesystem: neither a layer nor an upper: %w", unix.EINVAL)
	}
	f.learnLayers()
	return f, f.makeRoot()
}

// fileLimit is how many descriptors this process may have.
func fileLimit() int {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return 1024
	}
	return int(min(r.Cur, 1<<20))
}

func (f *FS) openUpper() error {
	fd, err := unix.Open(f.cfg.Upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open upper %s: %w", f.cfg.Upper, err)
	}
	f.upperFD = fd
	var st unix.Statx_t
	if err := sys.Statx(fd, "", &st); err != nil {
		return fmt.Errorf("stat upper %s: %w", f.cfg.Upper, err)
	}
	f.upperDev = sys.Dev(&st)
	point, err := cow.ParseFailPoint(f.cfg.FailPoint)
	if err != nil {
		return err
	}
	f.work, err = cow.OpenWorkdir(f.cfg.Work, fd, cow.WorkdirOptions{
		Volatile: f.cfg.Volatile, Index: f.cfg.Index, Namespace: f.cfg.Namespace, FailPoint: point, Wait: f.cfg.WaitForUpper,
	})
	if err != nil {
		return err
	}
	f.indexFD = f.work.IndexFD()
	if f.style, err = f.cfg.Namespace.Probe(f.work.FD(), f.work.TempName()); err != nil {
		return fmt.Errorf("upper %s: its filesystem can hold no whiteout, neither a device nor an attribute; use another filesystem: %w",
			f.cfg.Upper, err)
	}
	return f.markRoots()
}

// markRoots leaves the marks of the kernel's format on the root of the upper
// and on the index (fs/overlayfs/super.c:ovl_make_workdir, ovl_get_indexdir,
// ovl_init_uuid_xattr). A filesystem without attributes goes unmarked.
func (f *FS) markRoots() error {
	ns := f.cfg.Namespace
	_, marked := whiteout.DetectNamespace(f.upperFD)
	if !marked {
		empty, err := f.upperEmpty()
		if err != nil {
			return err
		}
		f.foreign = !empty
	}
	if f.foreign {
		// A mark on the root would say that all of the upper is in the kernel's
		// form, which the directories nobody has looked at yet are not.
		f.indexFD = -1
		return nil
	}
	f.markUUID(ns)
	if f.indexFD < 0 || len(f.cfg.Lowers) == 0 {
		return nil
	}
	ok, err := f.verifyIndex(ns)
	if err == nil && !ok {
		f.log.Warn("the hardlink index in the workdir is of other layers; hard links are not kept together in this mount",
			"work", f.cfg.Work)
		f.indexFD = -1
	}
	if errors.Is(err, unix.ENOTSUP) {
		f.indexFD, err = -1, nil // no handles or no attributes: no index
	}
	return err
}

func (f *FS) upperEmpty() (bool, error) {
	ents, err := sys.ReadDir(f.upperFD, "")
	if err != nil {
		return false, fmt.Errorf("read upper %s: %w", f.cfg.Upper, err)
	}
	return len(ents) == 0, nil
}

// markUUID gives a new upper the mark by which its format is known later.
func (f *FS) markUUID(ns whiteout.Namespace) {
	for _, m := range [...]whiteout.Mark{whiteout.UUID, whiteout.Impure} {
		if _, err := ns.Get(f.upperFD, "", m); err == nil {
			return
		}
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	if err := ns.Set(f.upperFD, "", whiteout.UUID, id[:]); err != nil {
		f.log.Warn("cannot mark the upper", "upper", f.cfg.Upper, "err", err)
	}
}

// verifyIndex tells whether the index belongs to this upper and these layers,
// and claims it when it is new (fs/overlayfs/namei.c:ovl_verify_set_fh).
func (f *FS) verifyIndex(ns whiteout.Namespace) (bool, error) {
	want, err := f.cfg.Lowers[0].Root().Handle()
	if err != nil {
		return false, err
	}
	ok, err := verifyHandle(ns, f.upperFD, whiteout.Origin, want)
	if err != nil || !ok {
		return false, err
	}
	want, err = stack.OriginHandle(f.upperFD, "", sys.FSUUID(f.upperFD), true)
	if err != nil {
		return false, err
	}
	return verifyHandle(ns, f.indexFD, whiteout.Upper, want)
}

func verifyHandle(ns whiteout.Namespace, fd int, m whiteout.Mark, want []byte) (bool, error) {
	have, err := ns.Get(fd, "", m)
	if err == unix.ENODATA {
		return true, ns.Set(fd, "", m, want)
	}
	if err != nil {
		return false, err
	}
	return string(have) == string(want), nil
}

// makeRoot makes the root node.
func (f *FS) makeRoot() error {
	lower := f.lowers.Root().Reals
	state := lowerOnly
	if f.upperFD >= 0 {
		state = fullUpper
	}
	f.root = f.newNode(unix.S_IFDIR, lower, state)
	f.root.maybeXat.Store(true)
	f.root.dir.loc.Store(&dirLoc{})
	if f.upperFD >= 0 {
		m, err := f.readMarks(f.upperFD, "", true)
		if err != nil && err != unix.EINVAL {
			return fmt.Errorf("read marks of upper %s: %w", f.cfg.Upper, err)
		}
		f.root.dir.impure, f.root.dir.opacity = m.HasImpure, m.Opacity
	}
	if f.own.remembers() {
		if err := f.recallRoot(lower); err != nil {
			return err
		}
	}
	if f.foreign {
		f.root.dir.impure = true // known here, and not marked on disk
	}
	f.nodes.ref(f.root)
	if len(lower) > 0 {
		a := lower[0].Object.Attr()
		f.root.ino.Store(f.inoOf(&a))
		return f.adopt(f.root)
	}
	var st unix.Statx_t
	if err := sys.Statx(f.upperFD, "", &st); err != nil {
		return err
	}
	a := stack.AttrOf(&st)
	f.root.ino.Store(f.inoOf(&a))
	return f.adopt(f.root)
}

// readOnly tells whether nothing can be changed.
func (f *FS) readOnly() bool { return f.upperFD < 0 }

// Sync flushes everything that was written to disk.
func (f *FS) Sync() error {
	if f.upperFD < 0 || f.cfg.Volatile {
		return nil
	}
	fd, err := sys.Openat(f.upperFD, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("flush upper %s: %w", f.cfg.Upper, err)
	}
	defer sys.Close(fd) //nolint:errcheck // only read
	if err := sys.Syncfs(fd); err != nil {
		return fmt.Errorf("flush upper %s: %w", f.cfg.Upper, err)
	}
	return nil
}

// Freeze holds back every change until Thaw: it returns when those under way
// are done, or with ctx's error. EOPNOTSUPP: io=passthrough.
func (f *FS) Freeze(ctx context.Context) error {
	if f.passthrough {
		return fmt.Errorf("hold writes back: with io=passthrough the kernel does not ask before it writes: %w", unix.EOPNOTSUPP)
	}
	locked := make(chan struct{})
	f.freezing.Add(1)
	go func() {
		f.notify.quiesce()
		f.gate.Lock()
		close(locked)
	}()
	select {
	case <-locked:
		f.frozen.Store(true)
		return nil
	case <-ctx.Done():
		go func() {
			<-locked
			f.gate.Unlock()
			f.freezing.Add(-1)
		}()
		return ctx.Err()
	}
}

// Thaw ends a Freeze. Without one it does nothing.
func (f *FS) Thaw() {
	if f.frozen.CompareAndSwap(true, false) {
		f.gate.Unlock()
		f.freezing.Add(-1)
	}
}

// Status tells what the mount is and does.
func (f *FS) Status() Status {
	s := Status{
		IO: IOCached, Why: "warm opens and reads cost no message",
		Nodes: f.nodes.size(), Frozen: f.frozen.Load(),
		Upper: f.cfg.Upper, Work: f.cfg.Work, Namespace: f.cfg.Namespace.String(),
		OpenFDs:  f.dirFDs.Open() + f.dataFDs.Open(),
		Messages: f.msgs.snapshot(),
	}
	s.Transport, s.TransportWhy = f.notify.describe()
	if f.passthrough {
		s.IO, s.Why = IOPassthrough, "asked for by io=passthrough"
	}
	if f.upperFD >= 0 {
		s.Whiteout = f.style.String()
		s.Index = f.indexFD >= 0
	}
	return s
}

// Close flushes the upper and lets everything go. The filesystem must not be
// mounted any more.
func (f *FS) Close() error {
	var errs []error
	if f.upperFD >= 0 && f.work != nil {
		errs = append(errs, f.Sync())
	}
	if f.work != nil {
		errs = append(errs, f.work.Close())
	}
	f.closeFiles()
	if f.upperFD >= 0 {
		errs = append(errs, sys.Close(f.upperFD))
		f.upperFD = -1
	}
	for _, l := range f.cfg.Lowers {
		errs = append(errs, l.Close())
	}
	f.cfg.Lowers = nil
	return errors.Join(errs...)
}

// closeFiles closes what the nodes that the kernel did not forget keep open.
func (f *FS) closeFiles() {
	f.nodes.mu.RLock()
	for _, n := range f.nodes.byID {
		f.takeFromOrphan(n)
	}
	f.nodes.mu.RUnlock()
	for _, c := range [...]*sys.FDCache{f.dirFDs, f.dataFDs} {
		if c != nil {
			c.Purge()
		}
	}
}
