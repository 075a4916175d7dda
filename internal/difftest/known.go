package difftest

import "strings"

// Known is a difference on purpose, or one that nothing can be done about. Each
// is explained in docs/semantics.md.
type Known struct {
	Name   string
	Reason string
	// Match tells whether this is what makes the two results differ.
	Match func(op Op, oracle, subject Result) bool
}

// Differences are those of unionfs.
var Differences = []Known{
	{
		Name:   "mmap-coherent",
		Reason: "a shared mapping made before a copy-up sees later writes here, and stays stale in the kernel",
		Match: func(op Op, oracle, subject Result) bool {
			return op.Call == "mread" && strings.HasSuffix(oracle.Val, staleMark) && !strings.HasSuffix(subject.Val, staleMark)
		},
	},
	{
		Name:   "file-handles",
		Reason: "name_to_handle_at works without nfs_export=on here",
		Match: func(op Op, oracle, subject Result) bool {
			return op.Call == "handle" && oracle.Err == "EOPNOTSUPP" && subject.Err == ""
		},
	},
}
