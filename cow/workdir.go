package cow

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// The names in a workdir, which are the kernel's (fs/overlayfs/super.c).
const (
	workName     = "work"
	indexName    = "index"
	incompatName = "incompat"
	volatileName = "volatile"
	dirtyName    = "dirty"
	tempPrefix   = "#"
)

// WorkdirOptions says how a workdir is used.
type WorkdirOptions struct {
	// Volatile marks the workdir, so that no mount accepts it after a crash.
	Volatile bool
	// Index makes the hardlink index, index/.
	Index bool
	// Namespace is where the marks of whiteouts go.
	Namespace whiteout.Namespace
	// Wait is how long to wait for another mount to let go of the directories: a
	// daemon goes on for a moment when its mount is gone.
	Wait time.Duration
	// FailPoint is for crash tests, see ParseFailPoint; nil otherwise.
	FailPoint FailPoint
}

// Workdir is the scratch directory of a mount, on the upper's filesystem. In it
// lie work/, for objects that are being made, and index/, for the hardlink
// index, as the kernel's overlayfs lays them out. Its methods may be called
// concurrently.
type Workdir struct {
	path      string // immutable, for messages
	ns        whiteout.Namespace
	volatile  bool
	failPoint FailPoint

	lockFD  int // workPath itself, holds a lock; immutable
	upperFD int // the upper directory, holds a lock; immutable
	workFD  int // work/; immutable
	indexFD int // index/ or -1; immutable

	temps     atomic.Uint64 // last number given to a temp
	noTmpfile atomic.Bool   // the filesystem has no O_TMPFILE

	sharedMu sync.Mutex
	shared   [2]sharedWhiteout // by whiteout.Style; guarded by sharedMu
}

// OpenWorkdir takes the directory workPath, which must exist, into use for the
// upper directory upperFD (which may be O_PATH and stays the caller's). It
// locks both against other mounts, and removes what a mount that was killed
// left in work/. Errors: ErrInUse, ErrOtherFilesystem, ErrVolatile,
// ErrIncompatible, or an errno. The caller closes the workdir.
func OpenWorkdir(workPath string, upperFD int, opt WorkdirOptions) (*Workdir, error) {
	w := &Workdir{
		path: workPath, ns: opt.Namespace, volatile: opt.Volatile, failPoint: opt.FailPoint,
		lockFD: -1, upperFD: -1, workFD: -1, indexFD: -1,
	}
	if err := w.open(upperFD, opt); err != nil {
		w.closeFDs()
		return nil, err
	}
	return w, nil
}

func (w *Workdir) open(upperFD int, opt WorkdirOptions) error {
	if err := w.lock(upperFD, opt.Wait); err != nil {
		return err
	}
	if err := w.checkSameMount(); err != nil {
		return err
	}
	var err error
	if w.workFD, err = w.subdir(workName); err != nil {
		return err
	}
	if err := w.checkIncompat(); err != nil {
		return err
	}
	if err := w.clean(w.workFD, false); err != nil {
		return err
	}
	if opt.Index {
		if w.indexFD, err = w.subdir(indexName); err != nil {
			return err
		}
		// The kernel makes its temps in index/ when it has one.
		if err := w.clean(w.indexFD, true); err != nil {
			return err
		}
	}
	if opt.Volatile {
		return w.markVolatile()
	}
	return nil
}

// lockPoll is how often a lock is tried while waiting for it.
const lockPoll = 10 * time.Millisecond

// lock opens the workdir and the upper directory and locks both. The upper is
// locked as well because two workdirs may be given for one upper.
func (w *Workdir) lock(upperFD int, wait time.Duration) error {
	var err error
	end := time.Now().Add(wait)
	if w.lockFD, err = openDirPath(w.path); err != nil {
		return fmt.Errorf("open workdir %s: %w", w.path, err)
	}
	if w.upperFD, err = sys.Openat(upperFD, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return fmt.Errorf("open upper directory of workdir %s: %w", w.path, err)
	}
	for _, l := range [...]struct {
		fd   int
		what string
	}{{w.upperFD, "upper directory of workdir"}, {w.lockFD, "workdir"}} {
		err := sys.TryLock(l.fd)
		for err == unix.EWOULDBLOCK && time.Now().Before(end) {
			time.Sleep(lockPoll)
			err = sys.TryLock(l.fd)
		}
		switch err {
		case nil:
		case unix.EWOULDBLOCK:
			return fmt.Errorf("lock %s %s: %w (unmount that first, or use another): %w", l.what, w.path, ErrInUse, unix.EBUSY)
		default:
			return fmt.Errorf("lock %s %s: %w", l.what, w.path, err)
		}
	}
	return nil
}

// checkSameMount makes sure that names can move between workdir and upper.
func (w *Workdir) checkSameMount() error {
	var dev [2]uint64
	var mnt [2]uint64
	for i, fd := range [...]int{w.lockFD, w.upperFD} {
		var st unix.Statx_t
		if err := sys.Statx(fd, "", &st); err != nil {
			return fmt.Errorf("stat workdir %s or its upper: %w", w.path, err)
		}
		dev[i] = sys.Dev(&st)
		id, err := sys.MountID(fd)
		if err != nil {
			return fmt.Errorf("stat workdir %s or its upper: %w", w.path, err)
		}
		mnt[i] = id
	}
	if dev[0] != dev[1] || mnt[0] != mnt[1] {
		return fmt.Errorf("workdir %s: %w (choose a directory beside the upper): %w", w.path, ErrOtherFilesystem, unix.EXDEV)
	}
	return nil
}

// subdir opens a directory of the workdir, and makes it where it is missing.
// Its mode is 0, as the kernel's, since nobody else has business in it; a plain
// user could then not use it himself and makes it 0700. Default ACLs that it
// inherited would be inherited by every temp, so they go.
func (w *Workdir) subdir(name string) (int, error) {
	mode := uint32(0o700)
	if sys.HasCap(unix.CAP_DAC_OVERRIDE) {
		mode = 0
	}
	err := sys.Mkdirat(w.lockFD, name, mode)
	made := err == nil
	if err != nil && err != unix.EEXIST {
		return -1, fmt.Errorf("make %s/%s: %w", w.path, name, err)
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	fd, err := sys.OpenInMount(w.lockFD, name, flags)
	if err == unix.EACCES {
		// Left with mode 0 by a mount of this user in a user namespace.
		if err = sys.Chmodat(w.lockFD, name, 0o700); err == nil {
			fd, err = sys.OpenInMount(w.lockFD, name, flags)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("open %s/%s (remove it if it is not a workdir's): %w", w.path, name, err)
	}
	if !made {
		return fd, nil
	}
	for _, acl := range [...]string{aclDefault, aclAccess} {
		err := sys.Removexattrat(fd, "", acl)
		if err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			_ = sys.Close(fd)
			return -1, fmt.Errorf("remove inherited ACL of %s/%s: %w", w.path, name, err)
		}
	}
	// An inherited ACL or the umask may have changed the mode.
	if err := sys.Chmodat(fd, "", mode); err != nil {
		_ = sys.Close(fd)
		return -1, fmt.Errorf("set mode of %s/%s: %w", w.path, name, err)
	}
	return fd, nil
}

// clean removes what is left in a directory of the workdir; with tempsOnly only
// what has the name of a temp.
func (w *Workdir) clean(fd int, tempsOnly bool) error {
	ents, err := sys.ReadDir(fd, "")
	if err != nil {
		return fmt.Errorf("list leftovers in workdir %s: %w", w.path, err)
	}
	for _, e := range ents {
		if tempsOnly && e.Name[:1] != tempPrefix {
			continue
		}
		if err := RemoveTree(fd, e.Name); err != nil {
			return fmt.Errorf("remove leftover of an earlier mount in workdir %s: %w", w.path, err)
		}
	}
	return nil
}

// FD is the directory work/, valid until Close. It is readable and stays the
// workdir's.
func (w *Workdir) FD() int { return w.workFD }

// IndexFD is the directory index/, or -1 where there is none.
func (w *Workdir) IndexFD() int { return w.indexFD }

// TempName returns a name for a temp in work/ that was not returned before.
func (w *Workdir) TempName() string {
	return tempPrefix + strconv.FormatUint(w.temps.Add(1), 16)
}

// LinkIndex gives the entry of the hardlink index one more name, in the upper.
// ErrExist: the name is taken.
func (w *Workdir) LinkIndex(entry string, parentFD int, name string) error {
	if err := sys.Linkat(w.indexFD, entry, parentFD, name); err != nil {
		return fmt.Errorf("link %q to its index entry %s: %w", name, entry, existing(ErrExist, err))
	}
	return nil
}

// Close gives the workdir back: it removes the shared whiteouts, and the mark
// of a volatile mount once everything was synced, and unlocks. No temp may be
// in use. After an error of the sync the mark stays, since the upper may be
// damaged; the workdir is closed all the same.
//
// The kernel leaves the mark even after a clean unmount, and so makes the next
// mount fail until somebody removes it by hand.
func (w *Workdir) Close() error {
	err := w.dropShared()
	if w.volatile {
		err = errors.Join(err, w.unmarkVolatile())
	}
	w.closeFDs()
	return err
}

func (w *Workdir) closeFDs() {
	for _, fd := range [...]*int{&w.indexFD, &w.workFD, &w.lockFD, &w.upperFD} {
		if *fd >= 0 {
			// Only read: there is no write that could fail late.
			_ = sys.Close(*fd)
			*fd = -1
		}
	}
}

// openDirPath opens a directory that the user named: symlinks in it are his.
func openDirPath(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
