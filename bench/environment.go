package bench

import (
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/mountinfo"
)

// Environment is the machine and the versions that a run was made with. Results
// without it are noise.
type Environment struct {
	Kernel     string            `json:"kernel"`
	CPU        string            `json:"cpu"`
	CPUs       int               `json:"cpus"`
	Governor   string            `json:"governor,omitempty"`
	MemoryMiB  int               `json:"memory_mib"`
	Load       string            `json:"load"` // average of the last minute, after the run
	Filesystem string            `json:"filesystem"`
	Dir        string            `json:"dir"`
	User       string            `json:"user"`
	Versions   map[string]string `json:"versions"`
	Commit     string            `json:"commit,omitempty"`
}

// readEnvironment describes this machine; what cannot be found out stays empty.
func readEnvironment(opts Options, dir string) Environment {
	env := Environment{
		CPU: cpuModel(), CPUs: runtime.NumCPU(), Dir: opts.Dir, Commit: opts.Commit, User: "root",
		Governor: firstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
		Versions: map[string]string{"go": runtime.Version()},
	}
	if !isRoot() {
		env.User = "not root"
	}
	env.Load, _, _ = strings.Cut(firstLine("/proc/loadavg"), " ")
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		env.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	if total, err := memoryField("/proc/meminfo", "MemTotal"); err == nil {
		env.MemoryMiB = int(total / (1 << 20))
	}
	if table, err := mountinfo.Mounts(); err == nil {
		if m, ok := table.Covering(dir); ok {
			env.Filesystem = m.FSType
		}
	}
	if opts.Version != "" {
		env.Versions["unionfs"] = opts.Version
	}
	for _, p := range append([]Peer{fuseOverlayfs}, opts.Peers...) {
		if v := versionOf(strings.Fields(p.Template)[0], p.Name); v != "" {
			env.Versions[p.Name] = v
		}
	}
	return env
}

// versionOf asks a program for its version: the first word with a digit in front
// on the line that names the program, else on the first line.
func versionOf(program, name string) string {
	out, err := exec.Command(program, "--version").CombinedOutput()
	if err != nil {
		return ""
	}
	line := ""
	for l := range strings.Lines(string(out)) {
		if line == "" || strings.HasPrefix(l, name+":") {
			line = l
		}
	}
	for _, word := range strings.Fields(line) {
		if number := strings.TrimPrefix(word, "v"); number != "" && number[0] >= '0' && number[0] <= '9' {
			return word
		}
	}
	return ""
}

func cpuModel() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}
