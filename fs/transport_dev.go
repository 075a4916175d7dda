package fs

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// dev is the transport of our own loop over /dev/fuse.
type dev struct {
	f     *FS
	proto *protocol
	fuse  *fuseDevice
	crew  *crew
	why   string
}

func (f *FS) newDev(fd int, m *MountOptions, why string) (transport, error) {
	d, err := f.openDev(fd, m, 0, why)
	if err != nil {
		return nil, err
	}
	if !d.fuse.canPoll() {
		d.why += "; it cannot spin: the device cannot be cloned"
	}
	return d, nil
}

// openDev takes over fd and answers the kernel's first request; caps are asked
// for besides the usual ones.
func (f *FS) openDev(fd int, m *MountOptions, caps uint64, why string) (*dev, error) {
	d := &dev{f: f, proto: newProtocol(f, m, caps), fuse: newFuseDevice(fd), why: why}
	if err := d.proto.init(d.fuse); err != nil {
		d.fuse.close()
		return nil, err
	}
	d.crew = newCrew(d.fuse)
	d.crew.serve = d.proto.serve
	d.crew.slow = f.mayBlock
	d.crew.fail = func(err error) { f.log.Error("cannot read requests any more", "err", err) }
	d.crew.maxHelpers = int32(min(cpus()-1, maxHelpers))
	d.crew.spin = newSpinner(m.Spin, cpus())
	return d, nil
}

// maxHelpers is how many goroutines drain the device beside the leader at most.
const maxHelpers = 8

func (d *dev) serve() {
	d.crew.run()
	d.fuse.close()
}

// quiesce has nothing to wait for, see crew.
func (d *dev) quiesce() {}

func (d *dev) kind() (Transport, string) { return TransportDev, d.why }

func (d *dev) invalInode(id uint64, off, length int64) error {
	return d.fuse.notifyInode(id, off, length)
}

func (d *dev) invalEntry(parent uint64, name string) error { return d.fuse.notifyEntry(parent, name) }

// fuseDevice is the descriptors of one FUSE connection: one to sleep on, and a
// non-blocking clone to look with.
type fuseDevice struct {
	fd, clone int // clone is -1 without one; immutable

	mu     sync.RWMutex // shared: a notification is being written
	closed bool         // guarded by mu
}

// newFuseDevice takes over fd.
func newFuseDevice(fd int) *fuseDevice {
	clone, err := sys.CloneFuse(fd)
	if err != nil {
		clone = -1 // an old kernel, or no /dev/fuse for this user
	}
	return &fuseDevice{fd: fd, clone: clone}
}

func (d *fuseDevice) canPoll() bool { return d.clone >= 0 }

func (d *fuseDevice) read(buf []byte, wait bool) (n, from int, err error) {
	if wait {
		n, err = sys.Read(d.fd, buf)
		return n, d.fd, err
	}
	n, err = sys.ReadNow(d.clone, buf)
	return n, d.clone, err
}

// bigReply is from how many bytes on copying a reply takes long enough for the
// Go scheduler to be told.
const bigReply = 32 << 10

func (d *fuseDevice) reply(from int, b []byte) (err error) {
	if len(b) < bigReply {
		_, err = sys.WriteNow(from, b)
	} else {
		_, err = sys.Write(from, b)
	}
	return err
}

// close closes the descriptors. No worker uses them any more.
func (d *fuseDevice) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	_ = sys.Close(d.fd) // a device
	if d.clone >= 0 {
		_ = sys.Close(d.clone)
	}
}

// notify sends a message that is no reply (fs/fuse/dev.c:fuse_notify).
func (d *fuseDevice) notify(code int32, body []byte) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return unix.ENODEV
	}
	const header = 16
	b := binary.NativeEndian.AppendUint32(make([]byte, 0, header+len(body)), uint32(header+len(body)))
	b = binary.NativeEndian.AppendUint32(b, uint32(code))
	b = binary.NativeEndian.AppendUint64(b, 0)
	_, err := sys.Write(d.fd, append(b, body...))
	return err
}

// notifyInode sends struct fuse_notify_inval_inode_out.
func (d *fuseDevice) notifyInode(id uint64, off, length int64) error {
	b := binary.NativeEndian.AppendUint64(nil, id)
	b = binary.NativeEndian.AppendUint64(b, uint64(off))
	b = binary.NativeEndian.AppendUint64(b, uint64(length))
	return d.notify(-fuse.NOTIFY_INVAL_INODE, b)
}

// notifyEntry sends struct fuse_notify_inval_entry_out and the name.
func (d *fuseDevice) notifyEntry(parent uint64, name string) error {
	b := binary.NativeEndian.AppendUint64(nil, parent)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	b = binary.NativeEndian.AppendUint32(b, 0) // flags
	b = append(append(b, name...), 0)
	return d.notify(-fuse.NOTIFY_INVAL_ENTRY, b)
}

// init reads and answers the kernel's first request.
func (p *protocol) init(d *fuseDevice) error {
	in, err := sys.MapBuffer(bufferSize)
	if err != nil {
		return err
	}
	defer sys.UnmapBuffer(in)
	for {
		n, from, err := d.read(in, true)
		if err != nil {
			if again(err) {
				continue
			}
			return fmt.Errorf("read: %w", err)
		}
		out := make([]byte, 4096)
		size := p.serve(in[:n], out)
		if o := sys.View[fuse.InitOut](out[outHeader:size]); o != nil {
			p.agreed = o.Flags64()
		}
		if err := d.reply(from, out[:size]); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		return nil
	}
}
