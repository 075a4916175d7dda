package cow

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Step is one step of a protocol in this package, in the order of the package
// comment. A fail point is asked before each.
type Step uint8

// The steps.
const (
	StepCreate       Step = iota // make the object aside
	StepData                     // fill a regular file
	StepOwner                    // chown
	StepXattrs                   // user, trusted and security attributes
	StepMarks                    // what the union stores about the object
	StepACL                      // POSIX ACLs
	StepMode                     // chmod
	StepTimes                    // access and modification time
	StepSync                     // fsync
	StepIndex                    // give it its name in the hardlink index
	StepPublish                  // give it its name in the upper
	StepPublished                // after the name, before the parent's times
	StepWhiteoutMade             // a whiteout is aside, the victim still there
	StepSwapped                  // whiteout and directory have changed places
	StepCompleteData             // fill a metacopy file
	StepCompleteMark             // remove its metacopy mark
	numSteps
)

var stepNames = [numSteps]string{
	StepCreate: "create", StepData: "data", StepOwner: "owner", StepXattrs: "xattrs",
	StepMarks: "marks", StepACL: "acl", StepMode: "mode", StepTimes: "times", StepSync: "sync",
	StepIndex: "index", StepPublish: "publish", StepPublished: "published",
	StepWhiteoutMade: "whiteout-made", StepSwapped: "swapped",
	StepCompleteData: "complete-data", StepCompleteMark: "complete-mark",
}

// String is the name that ParseFailPoint takes.
func (s Step) String() string {
	if s < numSteps {
		return stepNames[s]
	}
	return fmt.Sprintf("step %d", uint8(s))
}

// Steps returns all steps in order.
func Steps() []Step {
	all := make([]Step, numSteps)
	for i := range all {
		all[i] = Step(i)
	}
	return all
}

// FailPoint is asked before each step; an error of it is the step's error. It
// may be called concurrently.
type FailPoint func(Step) error

// ParseFailPoint makes a fail point from a text like "cow.sync:kill" or
// "cow.data:error": kill ends this process with SIGKILL, so that nothing is
// cleaned up, error makes the step fail with EIO. It is for crash tests; the
// text comes from the environment variable UNIONFS_FAILPOINT, which only the
// command reads. The empty text is no fail point (nil).
func ParseFailPoint(text string) (FailPoint, error) {
	if text == "" {
		return nil, nil
	}
	name, action, ok := strings.Cut(strings.TrimPrefix(text, "cow."), ":")
	at := numSteps
	for _, s := range Steps() {
		if s.String() == name {
			at = s
		}
	}
	if !ok || at == numSteps || action != "kill" && action != "error" {
		return nil, fmt.Errorf("parse fail point %q: want cow.STEP:kill or cow.STEP:error, STEP one of %s",
			text, strings.Join(stepNames[:], ", "))
	}
	return func(s Step) error {
		if s != at {
			return nil
		}
		if action == "kill" {
			_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
		}
		return unix.EIO
	}, nil
}

// at asks the fail point.
func (w *Workdir) at(s Step) error {
	if w.failPoint == nil {
		return nil
	}
	return w.failPoint(s)
}
