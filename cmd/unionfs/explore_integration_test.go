package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// terminal is a tmux session of its own server with the program in it.
type terminal struct {
	t      *testing.T
	socket string
}

// newTerminal runs a shell command in a terminal of 80x24 cells.
func newTerminal(t *testing.T, command string) *terminal {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("needs tmux")
	}
	// Not t.TempDir: the path of a socket must be short.
	dir, err := os.MkdirTemp("", "unionfs-tmux-")
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t, filepath.Join(dir, "s")}
	t.Cleanup(func() {
		_ = exec.Command("tmux", "-S", term.socket, "kill-server").Run() // it ends by itself when its last program does
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	term.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command)
	return term
}

func (term *terminal) tmux(args ...string) string {
	term.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// press sends keys by the names that tmux has for them.
func (term *terminal) press(keys ...string) {
	term.t.Helper()
	term.tmux(append([]string{"send-keys"}, keys...)...)
}

// see waits until the screen shows all of wants.
func (term *terminal) see(wants ...string) {
	term.t.Helper()
	deadline := time.Now().Add(120 * time.Second)
	for {
		screen := term.tmux("capture-pane", "-p")
		missing := ""
		for _, w := range wants {
			if !strings.Contains(screen, w) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("the screen never shows %q:\n%s", missing, screen)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// exploreLayers makes two layers, top first, and returns how to explore them.
func exploreLayers(t *testing.T) (command string) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"top/etc/motd": "new\nsecond\n", "low/etc/motd": "old\nsecond\n", "low/etc/hosts": "127.0.0.1 localhost\n",
		"low/usr/share/doc/x": strings.Repeat("word\n", 100),
	} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("cd %s && %s explore --lower low top; echo ended with $?; sleep 60", dir, path)
}

func TestExploreOnATerminal(t *testing.T) {
	term := newTerminal(t, exploreLayers(t))
	term.see("unionfs explore top", "▸ etc/", "▸ usr/", "? help")
	term.press("Right", "j")
	term.see("▾ etc/", "/etc/hosts", "127.0.0.1 localhost")
	term.press("j", "d")
	term.see("-old", "+new", " second", "q back")
	term.press("Escape")
	term.see("All layers")
	term.press("/", "doc", "Enter")
	term.see("1 of 1", "/usr/share/doc")
	term.tmux("resize-window", "-x", "120", "-y", "40")
	term.see(strings.Repeat("─", 105))
	term.press("m")
	term.see("Changes of layer 0", "~    motd")
	term.press("?")
	term.see("any key: back")
	term.press("x", "q")
	term.see("ended with 0")
	if screen := term.tmux("capture-pane", "-p"); strings.Contains(screen, "Changes of layer") {
		t.Errorf("the explorer leaves its screen behind:\n%s", screen)
	}
}

func TestExploreHonoursNoColor(t *testing.T) {
	for env, colours := range map[string]bool{"NO_COLOR=": true, "NO_COLOR=1": false} {
		term := newTerminal(t, "export TERM=screen-256color "+env+"; "+exploreLayers(t))
		term.see("▸ etc/", "? help")
		screen := term.tmux("capture-pane", "-p", "-e")
		if got := strings.Contains(screen, "\x1b[32m"); got != colours {
			t.Errorf("with %s: colours %v, want %v\n%q", env, got, colours, screen)
		}
	}
}

func TestExploreNeedsATerminal(t *testing.T) {
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"explore", t.TempDir()}, {"explore", "--json", t.TempDir()}, {"explore"}} {
		out, err := exec.Command(path, args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%v: %v, want exit code 2\n%s", args, err, out)
		}
		if len(args) > 1 && !strings.Contains(string(out), "unionfs ls -lR") {
			t.Errorf("%v: the message names no other command: %s", args, out)
		}
	}
}
