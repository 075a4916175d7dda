package cow

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What callers branch on. Each error that is returned also wraps the errno that
// a caller of a system call should see.
var (
	// ErrExist: the name in the upper is taken already; wraps EEXIST.
	ErrExist = errors.New("object exists already in the upper layer")
	// ErrIndexExists: the hardlink index has an entry of that name already, to
	// be linked with Workdir.LinkIndex; wraps EEXIST.
	ErrIndexExists = errors.New("object exists already in the hardlink index")
	// ErrInUse: another mount holds the upper or the workdir; wraps EBUSY.
	ErrInUse = errors.New("in use by another mount")
	// ErrOtherFilesystem: upper and workdir are not on one filesystem and
	// mount, so that nothing can be renamed between them; wraps EXDEV.
	ErrOtherFilesystem = errors.New("not on the filesystem and mount of the upper directory")
	// ErrVolatile: the last mount was volatile and did not end cleanly, so the
	// upper may be damaged; wraps EINVAL.
	ErrVolatile = errors.New("left by a volatile mount that did not end cleanly")
	// ErrIncompatible: the workdir says that its upper needs a feature that
	// unionfs does not know; wraps EINVAL.
	ErrIncompatible = errors.New("written with a feature that unionfs does not know")
)

// stepError says at which step of which object something failed.
func stepError(r *Request, s Step, err error) error {
	return fmt.Errorf("copy up %q: %s: %w", r.Name, s, err)
}

// existing turns EEXIST into the given sentinel, which then wraps both.
func existing(sentinel, err error) error {
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w: %w", sentinel, err)
	}
	return err
}
