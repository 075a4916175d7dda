package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	JSON bool
}

// AddFlags declares the flags.
func (o *doctorOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

// finding is one line of doctor's report.
type finding struct {
	Name   string `json:"name"`
	State  string `json:"state"` // ok, slow or broken
	Value  string `json:"value"`
	Advice string `json:"advice,omitempty"`
}

// The states of a finding: broken keeps a mount from working, slow from being
// as fast as it can be.
const (
	stateOK     = "ok"
	stateSlow   = "slow"
	stateBroken = "broken"
)

func newDoctorCommand() *command {
	var opts doctorOptions
	c := &command{
		name:  "doctor",
		usage: "[--json]",
		short: "tell what this machine lacks for mounting, and for mounting fast",
		long: `Looks at the machine and changes nothing. "broken" is what keeps mounts from
working, "slow" is what would make them faster, with the setting to change.
Exits 1 when something is broken.
`,
		flags: newFlagSet("doctor"),
	}
	opts.AddFlags(c.flags)
	c.run = func(_ context.Context, std stdio, args []string) error {
		return runDoctor(std, opts, args)
	}
	return c
}

func runDoctor(std stdio, opts doctorOptions, args []string) error {
	if len(args) > 0 {
		return usagef("takes no arguments")
	}
	all := examine()
	if opts.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(all); err != nil {
			return err
		}
	} else {
		for _, f := range all {
			fmt.Fprintf(std.out, "%-7s %-26s %s\n", f.State, f.Name, f.Value)
			if f.Advice != "" {
				fmt.Fprintf(std.out, "        -> %s\n", f.Advice)
			}
		}
	}
	for _, f := range all {
		if f.State == stateBroken {
			return fmt.Errorf("%s: %s", f.Name, f.Value)
		}
	}
	return nil
}

// examine looks at everything that doctor knows.
func examine() []finding {
	return []finding{
		examineFuse(), examineKernel(), examineRights(), examineUring(), examineHaltPoll(), examineFiles(),
		examinePages(), examineOverlay(),
	}
}

func examineFuse() finding {
	f := finding{Name: "FUSE device", State: stateOK, Value: fuseDevice + " can be used"}
	if err := checkFuse(fuseDevice, sys.HasCap(unix.CAP_SYS_ADMIN)); err != nil {
		f.State, f.Value = stateBroken, err.Error()
	}
	return f
}

func examineKernel() finding {
	var u unix.Utsname
	f := finding{Name: "kernel", State: stateOK}
	if err := unix.Uname(&u); err != nil {
		f.State, f.Value = stateBroken, err.Error()
		return f
	}
	release := unix.ByteSliceToString(u.Release[:])
	f.Value = "Linux " + release
	major, minor := kernelVersion(release)
	switch {
	case major < 5 || major == 5 && minor < 8:
		f.State, f.Advice = stateBroken, "Linux 5.8 or newer is needed: whiteouts without root, openat2, clones of mounts"
	case major < 6 || major == 6 && minor < 9:
		f.State, f.Advice = stateSlow, "io=passthrough needs Linux 6.9"
	}
	return f
}

// kernelVersion reads the first two numbers of a release; zeros where there are
// none.
func kernelVersion(release string) (major, minor int) {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return 0, 0
	}
	major, _ = strconv.Atoi(parts[0]) // 0 where it is no number
	digits := strings.IndexFunc(parts[1]+".", func(r rune) bool { return r < '0' || r > '9' })
	minor, _ = strconv.Atoi(parts[1][:digits])
	return major, minor
}

func examineRights() finding {
	f := finding{Name: "rights", State: stateOK, Value: "direct mounts, trusted.overlay.* marks, io=passthrough possible"}
	if !sys.HasCap(unix.CAP_SYS_ADMIN) {
		f.Value = "a plain user: mounts through fusermount3, user.overlay.* marks, no io=passthrough"
		return f
	}
	if inUserNamespace() {
		f.Value = "root of a user namespace: direct mounts, user.overlay.* marks, no io=passthrough"
	}
	return f
}

// inUserNamespace tells whether this process is in a user namespace other than
// the first, whose map is the whole range.
func inUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
}

func examineUring() finding {
	const path = "/sys/module/fuse/parameters/enable_uring"
	f := finding{Name: "FUSE over io_uring", State: stateOK, Value: "enabled"}
	switch readSetting(path) {
	case "Y":
	case "":
		f.State, f.Value = stateSlow, "the kernel does not have it"
		f.Advice = "Linux 6.14 or newer serves a request on the CPU that made it"
	default:
		f.State, f.Value = stateSlow, "disabled"
		f.Advice = "as root: echo Y > " + path + " (fuse.enable_uring=1 on the kernel's command line)"
	}
	return f
}

// examineHaltPoll looks at how a virtual machine's idle CPUs wait: waking one
// that was halted is most of what a FUSE message costs.
func examineHaltPoll() finding {
	const path = "/sys/module/haltpoll/parameters/guest_halt_poll_ns"
	f := finding{Name: "halt polling in the guest", State: stateOK}
	flags := readSetting("/proc/cpuinfo")
	if !strings.Contains(flags, "hypervisor") {
		f.Value = "no virtual machine"
		return f
	}
	if v := readSetting(path); v != "" && v != "0" {
		f.Value = v + " ns"
		return f
	}
	f.State, f.Value = stateSlow, "off: idle CPUs are dear to wake"
	f.Advice = "as root: modprobe cpuidle_haltpoll; echo 200000 > " + path
	return f
}

func examineFiles() finding {
	f := finding{Name: "open files", State: stateOK}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		f.State, f.Value = stateSlow, err.Error()
		return f
	}
	f.Value = fmt.Sprintf("%d at most", r.Max)
	if r.Max < 8192 {
		f.State, f.Advice = stateSlow, "raise the hard limit (ulimit -Hn): files in use are opened again and again below 8192"
	}
	return f
}

func examinePages() finding {
	const path = "/proc/sys/fs/fuse/max_pages_limit"
	f := finding{Name: "size of a request", State: stateOK, Value: "1 MiB"}
	if n, err := strconv.Atoi(readSetting(path)); err == nil && n < 256 {
		f.State, f.Value = stateSlow, fmt.Sprintf("%d KiB", n*4)
		f.Advice = "as root: sysctl fs.fuse.max_pages_limit=256"
	}
	return f
}

func examineOverlay() finding {
	f := finding{Name: "kernel overlayfs", State: stateOK, Value: "there, for comparison (unionfs bench)"}
	if !strings.Contains(readSetting("/proc/filesystems"), "\toverlay") {
		f.Value = "not there; unionfs does not need it"
	}
	return f
}

// readSetting is the trimmed text of a file, "" where it cannot be read.
func readSetting(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
