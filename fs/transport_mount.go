package fs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// subtype makes the type of the mount "fuse.unionfs" in the mount table.
const subtype = "unionfs"

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

var sysAdmin = sys.HasCap(unix.CAP_SYS_ADMIN)

// canMount tells whether this process may call mount(2): it has CAP_SYS_ADMIN
// in the user namespace of its mount namespace.
func canMount() bool { return sysAdmin }

// mountFUSE mounts on dir and returns the descriptor that the requests are read
// from, which the caller owns. Nobody answers yet.
func mountFUSE(dir string, m *MountOptions) (int, error) {
	if canMount() {
		return mountDirect(dir, m)
	}
	return mountHelper(dir, m)
}

// mountDirect is mountFUSE by mount(2).
func mountDirect(dir string, m *MountOptions) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return -1, err
	}
	fd, err := sys.OpenFuse()
	if err != nil {
		return -1, fmt.Errorf("open /dev/fuse (is the module fuse loaded, and the device there?): %w", err)
	}
	flags := uintptr(unix.MS_MGC_VAL)
	// The options that the kernel reads: fs/fuse/inode.c:fuse_fs_parameters.
	data := []string{
		fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,max_read=%d",
			fd, st.Mode&unix.S_IFMT, os.Geteuid(), os.Getegid(), maxRequest),
	}
	for _, o := range m.Options {
		mf, ok := mountFlags[o]
		switch {
		case !ok:
			data = append(data, o)
		case mf.clear:
			flags &^= mf.flag
		default:
			flags |= mf.flag
		}
	}
	data = append(data, m.fuseFlags()...)
	source := m.Source
	if source == "" {
		source = subtype
	}
	if err := unix.Mount(source, dir, "fuse."+subtype, flags, strings.Join(data, ",")); err != nil {
		_ = sys.Close(fd)
		return -1, err
	}
	return fd, nil
}

// fuseFlags are the options that FUSE has besides the generic ones.
func (m *MountOptions) fuseFlags() (out []string) {
	if m.DefaultPermissions {
		out = append(out, "default_permissions")
	}
	if m.AllowOther {
		out = append(out, "allow_other")
	}
	return out
}

// mountHelper is mountFUSE by the set-user-ID program fusermount3, which sends
// the descriptor through a socket.
func mountHelper(dir string, m *MountOptions) (int, error) {
	opts := append(append([]string{}, m.Options...), m.fuseFlags()...)
	opts = append(opts, "subtype="+subtype, fmt.Sprintf("max_read=%d", maxRequest))
	if m.Source != "" {
		opts = append(opts, "fsname="+escapeOption(m.Source))
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make a socket pair: %w", err)
	}
	defer sys.Close(pair[0]) //nolint:errcheck // a socket
	theirs := os.NewFile(uintptr(pair[1]), "fusermount socket")
	err = runFusermount(theirs, "-o", strings.Join(opts, ","), "--", dir)
	_ = theirs.Close() // a socket
	if err != nil {
		return -1, err
	}
	fd, err := receiveFD(pair[0])
	if err != nil {
		_ = runFusermount(nil, "-u", "-z", "--", dir) // best effort: nobody would answer
		return -1, fmt.Errorf("receive the descriptor of the mount from fusermount3: %w", err)
	}
	return fd, nil
}

// escapeOption protects the characters of a value that separate options.
func escapeOption(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(s)
}

// runFusermount runs fusermount3, or fusermount where there is only that. comm
// is the socket for the descriptor.
func runFusermount(comm *os.File, args ...string) error {
	bin := ""
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			bin = path
			break
		}
	}
	if bin == "" {
		return errors.New("this user may not call mount(2), and fusermount3 is not installed: install fuse3, or run in a user namespace (unshare -Urm)")
	}
	var errs bytes.Buffer
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = io.Discard, &errs
	if comm != nil {
		cmd.ExtraFiles = []*os.File{comm} // descriptor 3
		cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	}
	if err := cmd.Run(); err != nil {
		if msg := strings.TrimSpace(errs.String()); msg != "" {
			return fmt.Errorf("%s: %w", msg, err)
		}
		return fmt.Errorf("run %s: %w", bin, err)
	}
	return nil
}

// receiveFD reads the one descriptor that the peer has sent.
func receiveFD(sock int) (int, error) {
	var data [4]byte
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		_, n, _, _, err := unix.Recvmsg(sock, data[:], oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, err
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(msgs) != 1 {
			return -1, errors.Join(err, unix.EPROTO)
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil || len(fds) != 1 {
			return -1, errors.Join(err, unix.EPROTO)
		}
		return fds[0], nil
	}
}

// unmountFUSE unmounts dir. EBUSY: something in the mount is in use.
func unmountFUSE(dir string) error {
	if canMount() {
		return unix.Unmount(dir, 0)
	}
	return runFusermount(nil, "-u", "--", dir)
}
