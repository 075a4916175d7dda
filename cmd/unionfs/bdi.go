package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/mountinfo"
)

// bdiSettings are the limits that the kernel puts on every FUSE mount for fear of
// a daemon that does not answer, and what root sets instead
// (Documentation/ABI/testing/sysfs-class-bdi).
var bdiSettings = []struct{ file, value string }{
	{"read_ahead_kb", "1024"}, // requests as large as FUSE allows, instead of 128 KiB
	{"strict_limit", "0"},     // dirty pages count against the machine's limit, not this mount's
	{"max_ratio", "100"},      // and may be more than one percent of it
}

// tuneBDI sets them for the mount at mountpoint. Who may not goes without, and so
// does a kernel that lacks one.
func (d *daemon) tuneBDI(mountpoint string) {
	if !sys.HasCap(unix.CAP_SYS_ADMIN) {
		return
	}
	table, err := mountinfo.Mounts()
	if err != nil {
		return
	}
	m, ok := table.At(mountpoint)
	if !ok {
		return
	}
	dir := filepath.Join("/sys/class/bdi", fmt.Sprintf("%d:%d", m.Major, m.Minor))
	for _, s := range bdiSettings {
		if err := os.WriteFile(filepath.Join(dir, s.file), []byte(s.value), 0); err != nil {
			d.log.Debug("a limit of the mount stays as it is", "file", s.file, "error", err)
		}
	}
}
