package realtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// maxTranscript is how many lines the README's first transcript may have.
const maxTranscript = 12

// transcript is the first sh block of the README.
func transcript(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```sh\n")
	if !found {
		t.Fatal("README.md has no sh block")
	}
	block, _, _ := strings.Cut(rest, "```")
	return block
}

func TestReadmeTranscriptWorksWhenPasted(t *testing.T) {
	block := transcript(t)
	if n := strings.Count(block, "\n"); n > maxTranscript {
		t.Errorf("the transcript has %d lines, want at most %d", n, maxTranscript)
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		t.Skip("needs /dev/fuse")
	}
	b := newLab(t)
	bin := b.mkdir("path")
	if err := os.Symlink(b.binary, bin+"/unionfs"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-e", "-c", block)
	cmd.Dir = b.mkdir("pasted")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	t.Cleanup(func() {
		if mnt := cmd.Dir + "/m"; isMounted(mnt) {
			_ = exec.Command(b.binary, "umount", "--force", mnt).Run()
		}
	})
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	for _, want := range []string{"a\nc\n", "c---------", "0, 0", "one\ntwo\n", "sha256:"} {
		if !strings.Contains(text, want) {
			t.Errorf("the output lacks %q:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "a\nc\n"); n != 2 {
		t.Errorf("a and c are listed %d times, want in the mount and in the image:\n%s", n, text)
	}
}
