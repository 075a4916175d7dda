package image

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// failpointEnv names a step at which the process kills itself, for the tests of
// crash safety: "commit.index:kill".
const failpointEnv = "UNIONFS_FAILPOINT"

// failpoint is called at each step that a crash may come between.
func failpoint(op, step string) {
	want, how, _ := strings.Cut(os.Getenv(failpointEnv), ":")
	if want == "" || how != "kill" || want != op+"."+step {
		return
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {} // the signal is on its way
}

// Steps are the names of the fail points of commit, import, load and convert, in
// order.
var Steps = []string{"begin", "layer-temp", "layer-journal", "layer", "config", "manifest", "index-temp", "index", "end"}
