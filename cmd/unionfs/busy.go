package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/mountinfo"
)

// busyUser is a process that keeps a mount busy.
type busyUser struct {
	PID     int
	Command string
	Uses    []string // "working directory", "3 open files", ...
}

func (u busyUser) String() string {
	return fmt.Sprintf("%d %s (%s)", u.PID, u.Command, strings.Join(u.Uses, ", "))
}

// busyUsers finds the processes that use a mount, among those that this process
// may look into. It asks the kernel which mount a descriptor is of, never the
// mount itself.
func busyUsers(m *mountinfo.Info) []busyUser {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []busyUser
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if uses := usesOf("/proc/"+e.Name(), m); len(uses) > 0 {
			out = append(out, busyUser{PID: pid, Command: commandOf(pid), Uses: uses})
		}
	}
	return out
}

// usesOf tells how the process whose directory in /proc is proc uses m.
func usesOf(proc string, m *mountinfo.Info) []string {
	var uses []string
	for _, link := range []struct{ name, what string }{
		{"cwd", "working directory"}, {"root", "root directory"}, {"exe", "program"},
	} {
		if id, ok := mountOfLink(proc + "/" + link.name); ok && id == m.ID {
			uses = append(uses, link.what)
		}
	}
	files := 0
	infos, _ := filepath.Glob(proc + "/fdinfo/*")
	for _, path := range infos {
		if id, ok := readMountID(path); ok && id == m.ID {
			files++
		}
	}
	if files == 1 {
		uses = append(uses, "1 open file")
	} else if files > 1 {
		uses = append(uses, fmt.Sprintf("%d open files", files))
	}
	if maps(proc+"/maps", m) && !slices.Contains(uses, "program") {
		uses = append(uses, "mapped file")
	}
	return uses
}

// mountOfLink is the ID of the mount that a magic link of /proc leads to.
func mountOfLink(path string) (int, bool) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer sys.Close(fd) //nolint:errcheck // O_PATH: nothing to lose
	return readMountID(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
}

// readMountID reads the line "mnt_id:" of a file of /proc/PID/fdinfo.
func readMountID(path string) (int, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, err := strconv.Atoi(strings.TrimSpace(value))
			return id, err == nil
		}
	}
	return 0, false
}

// maps tells whether a process has a file of the mount's filesystem mapped. The
// fourth field of a line is the device in hexadecimal (proc_pid_maps(5)).
func maps(path string, m *mountinfo.Info) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	dev := fmt.Sprintf("%02x:%02x", m.Major, m.Minor)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if fields := strings.Fields(sc.Text()); len(fields) >= 5 && fields[3] == dev {
			return true
		}
	}
	return false
}

func commandOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}
