package difftest

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestDifferentialInAUserNamespace compares unionfs with the kernel's userxattr
// mount where both have the rights of a user namespace only: the variant
// userxattr is run again in one that has the ids 0 to 65535.
func TestDifferentialInAUserNamespace(t *testing.T) {
	needRoot(t)
	if err := exec.Command("test", "-c", "/dev/fuse").Run(); err != nil {
		t.Skip("needs /dev/fuse")
	}
	bin, err := unionfsBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDifferential$/^userxattr$", "-test.v")
	// A few cases, always the same: the kernel has two inodes there for two names
	// of one lower file, and longer runs find no end of consequences.
	cmd.Env = append(os.Environ(), inUserNamespace+"=1", "UNIONFS_BINARY="+bin,
		"UNIONFS_DIFF_CASES=8", "UNIONFS_DIFF_SECONDS=", "UNIONFS_DIFF_SEED=1", "UNIONFS_DIFF_REPLAY=")
	ids := []syscall.SysProcIDMap{{Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: TestDifferential/userxattr") {
		t.Errorf("the comparison did not run:\n%s", out)
	}
}
