package sys

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// AsCaller runs f on a locked thread whose filesystem user and group are uid
// and gid, with the thread's capabilities kept: what f creates belongs to the
// caller at once, while permission checks stay those of this process. It is
// the user-space form of the kernel's ovl_override_creds with a changed fsuid
// (fs/overlayfs/dir.c:ovl_create_or_link). A process without CAP_SETUID runs f
// as itself.
func AsCaller(uid, gid uint32, f func() error) error {
	if uid == selfUID && gid == selfGID || !canSetFSID {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	setfsid(unix.SYS_SETFSGID, gid)
	setfsid(unix.SYS_SETFSUID, uid)
	if uid != selfUID {
		// Leaving fsuid 0 drops the filesystem capabilities from the
		// effective set; they are still permitted, so raise them again.
		raiseCaps()
	}
	err := f()
	setfsid(unix.SYS_SETFSUID, selfUID)
	setfsid(unix.SYS_SETFSGID, selfGID)
	raiseCaps()
	return err
}

var (
	selfUID = uint32(unix.Geteuid())
	selfGID = uint32(unix.Getegid())
	// ownCaps is the effective and permitted set at start.
	ownCaps    = readCaps()
	canSetFSID = hasCap(ownCaps, unix.CAP_SETUID) && hasCap(ownCaps, unix.CAP_SETGID)
)

type capSet [2]unix.CapUserData

func readCaps() capSet {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data capSet
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return capSet{}
	}
	return data
}

func hasCap(c capSet, capability int) bool {
	return c[capability/32].Effective&(1<<(capability%32)) != 0
}

// HasCap tells whether this process had the capability (unix.CAP_*) in its
// effective set when it started, in its own user namespace.
func HasCap(capability int) bool { return hasCap(ownCaps, capability) }

// raiseCaps makes the calling thread's effective set the one of the start.
func raiseCaps() {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := ownCaps
	// It cannot fail: nothing is raised beyond the permitted set.
	_ = unix.Capset(&hdr, &data[0])
}

func setfsid(call uintptr, id uint32) {
	// setfsuid(2) and setfsgid(2) return the old id and have no error.
	_, _, _ = unix.RawSyscall(call, uintptr(id), 0, 0)
}

// Groups returns the supplementary groups of a process, as /proc shows them to
// this one; nil when it is gone or not to be seen.
func Groups(pid uint32) []uint32 {
	text, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/status")
	if err != nil {
		return nil
	}
	_, line, ok := strings.Cut(string(text), "\nGroups:")
	if !ok {
		return nil
	}
	line, _, _ = strings.Cut(line, "\n")
	var out []uint32
	for _, word := range strings.Fields(line) {
		if id, err := strconv.ParseUint(word, 10, 32); err == nil {
			out = append(out, uint32(id))
		}
	}
	return out
}
