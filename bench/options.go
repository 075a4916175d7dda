package bench

import (
	"io"
	"regexp"
	"time"
)

// Options is what a run measures and where.
type Options struct {
	// Dir is where mounts, upper and work directories are made, in a new
	// directory of the run that is removed at its end. Its filesystem is the
	// upper's filesystem.
	Dir string
	// Data is the folder with the data sets of scripts/bench-data.sh; generated
	// data is added to it and stays.
	Data string
	// Unionfs is the path of the unionfs binary.
	Unionfs string
	// Worker is the command line that runs [Worker], its path absolute.
	Worker []string
	// Targets are the names of the targets wished; empty is all.
	Targets []string
	// Peers are further filesystems.
	Peers []Peer
	// Rootless adds the targets inside a user namespace.
	Rootless bool
	// Only picks workloads by name; nil is all of the scale.
	Only *regexp.Regexp
	// Rounds is how many samples are taken of each pair, at least 1.
	Rounds int
	// Budget is the time after which no further round is begun; 0 is no limit.
	Budget time.Duration
	// Scale is how much each workload does.
	Scale Scale
	// Seed is the start of the random order.
	Seed uint64
	// Progress receives one line at a time that says what runs and how long it
	// will take; nil is nobody.
	Progress func(Progress)
	// Log receives what went wrong without ending the run; nil discards.
	Log io.Writer
	// Version and Commit name the unionfs that is measured.
	Version, Commit string
}

// Scale is how much work each workload does.
type Scale struct {
	Name      string
	ReadTree  string   // below the go data set: what is walked and read
	WriteTree string   // below the go data set: what is copied, changed and removed
	BigMiB    int      // size of the large file
	Loops     int      // stat, negative lookup, readlink, open of one file
	Files     int      // files of the open+read+close loop
	Ops       int      // random 4 KiB operations and small appends
	SyncOps   int      // random 4 KiB writes, each with fsync
	Inserts   int      // SQLite transactions
	DirSizes  []int    // entries of the directories that are listed
	Layers    []int    // depths of the stacks
	Clients   []int    // parallel clients
	Known     []int    // files of the memory and mount time workloads
	Packages  []string // what go build builds
	All       bool     // the workloads that take long, too
}

// FullScale is the measuring for docs and decisions; it takes an hour or so.
func FullScale() Scale {
	return Scale{
		Name: "full", ReadTree: "src", WriteTree: "src", BigMiB: 1024,
		Loops: 200_000, Files: 20_000, Ops: 50_000, SyncOps: 500, Inserts: 2000,
		DirSizes: []int{10, 1000, 100_000}, Layers: []int{1, 8, 32, 128}, Clients: []int{1, 2, 4, 8},
		Known: []int{10_000, 100_000, 1_000_000}, Packages: []string{"cmd/gofmt"}, All: true,
	}
}

// QuickScale is the measuring of about two minutes.
func QuickScale() Scale {
	return Scale{
		Name: "quick", ReadTree: "src/cmd", WriteTree: "src/net", BigMiB: 128,
		Loops: 20_000, Files: 2000, Ops: 2000, SyncOps: 50, Inserts: 50,
		DirSizes: []int{1000}, Layers: []int{32}, Clients: []int{4},
		// These two need no other package, the runtime least of all.
		Known: []int{10_000}, Packages: []string{"math", "unicode"},
	}
}
