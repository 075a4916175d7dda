package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// The transports that can register backing files.
var (
	_ backer = (*dev)(nil)
	_ backer = (*uring)(nil)
	_ backer = (*goFuse)(nil)
)

func (d *dev) openBacking(fd int) (int32, error) { return sys.OpenBacking(d.fuse.fd, fd) }

func (d *dev) closeBacking(id int32) { _ = sys.CloseBacking(d.fuse.fd, id) }

func (g *goFuse) openBacking(fd int) (int32, error) {
	id, errno := g.server.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	if errno != 0 {
		return 0, errno
	}
	return id, nil
}

func (g *goFuse) closeBacking(id int32) { _ = g.server.UnregisterBackingFd(id) }
