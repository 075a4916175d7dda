package main_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// inspectFixture has an image app:1 of two layers.
func inspectFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, "base/etc/conf=one", "base/etc/old=gone", "base/var/cache/big="+strings.Repeat("b", 1000), "base/bin/tool=tool",
		"upper/", "upper2/", "m/", "cache/")
	t.Setenv("UNIONFS_STORE", f.path("store"))
	t.Setenv("XDG_CACHE_HOME", f.path("cache"))
	f.ok("image", "import", "-m", "ADD base", "base", "base:1")
	f.mount("--upper", "upper", "base:1", "m")
	f.sh(`printf 'two\n' >m/etc/conf; rm -r m/var/cache; rm m/etc/old; chmod 4755 m/bin/tool; ln -s conf m/etc/link`)
	f.ok("commit", "-m", "change", "m", "app:1")
	f.ok("umount", "m")
	return f
}

func (f *fixture) sees(got, want string) {
	f.t.Helper()
	if got != want {
		f.t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestInspectAnImage(t *testing.T) {
	f := inspectFixture(t)
	f.sees(f.ok("diff", "app:1"), "C /bin\nC /bin/tool\nC /etc\nC /etc/conf\nA /etc/link\nD /etc/old\nC /var\nD /var/cache\n")
	f.sees(f.ok("diff", "app:1..base:1"), "C /bin\nC /bin/tool\nC /etc\nC /etc/conf\nD /etc/link\nA /etc/old\nC /var\nA /var/cache\nA /var/cache/big\n")
	f.sees(f.ok("diff", "--layer", "1..0", "app:1"), f.ok("diff", "app:1"))
	f.sees(f.ok("ls", "app:1:/etc"), "conf\nlink\n")
	f.sees(f.ok("ls", "--layer", "0", "app:1", "/etc"), "conf\nlink\nold\n")
	f.sees(f.ok("cat", "app:1:/etc/link"), "two\n")
	f.sees(f.ok("cat", "--layer", "1", "app:1", "/etc/conf"), "one")
	f.sees(f.ok("find", "app:1", "mode:suid"), "/bin/tool\n")
	f.sees(f.ok("find", "app:1", "state:deleted", "type:f"), "/etc/old\n/var/cache/big\n")
	f.ok("extract", "app:1:/etc", "out")
	f.sees(f.read("out/etc/conf"), "two\n")
	f.fails(f.run("unionfs", "cat", "app:1:/etc/old"), 3, "in layer 1")
	f.fails(f.run("unionfs", "cat", "app:1:/nothing"), 3, "in none of the 2 layers")
	f.fails(f.run("unionfs", "cat", "app:1:/etc"), 3, "is no file but a dir")
	f.fails(f.run("unionfs", "ls", "--layer", "7", "app:1"), 2, "no layer 7")
	f.fails(f.run("unionfs", "find", "app:1", "size>x"), 2, "bad expression")
	f.fails(f.run("unionfs", "diff", "no-such:1"), 3, "no-such:1")

	var w struct {
		Reclaimable int64 `json:"reclaimableBytes"`
		Deleted     struct{ Bytes int64 }
		Metadata    struct{ Bytes int64 }
		Overwritten struct{ Bytes int64 }
	}
	f.decode(f.ok("waste", "--json", "app:1"), &w)
	if w.Deleted.Bytes != 1004 || w.Metadata.Bytes != 4 || w.Overwritten.Bytes != 3 || w.Reclaimable != 1011 {
		t.Errorf("waste: %+v", w)
	}
	if text := f.ok("waste", "app:1"); !strings.Contains(text, "1kB     deleted      1         0         /var/cache/big") {
		t.Errorf("waste:\n%s", text)
	}
	f.checks()
}

func (f *fixture) decode(text string, v any) {
	f.t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		f.t.Fatalf("%v in %s", err, text)
	}
}

// checks tries unionfs check.
func (f *fixture) checks() {
	f.write("rules", "# a comment\nwaste>1MB\n\nsuid>0\n")
	r := f.run("unionfs", "check", "--rules", "rules", "--fail-if", "efficiency<1%", "app:1")
	if r.code != 1 || !strings.Contains(r.out, "FAIL  suid>0") || !strings.Contains(r.out, "/bin/tool") || !strings.Contains(r.out, "ok    waste>1MB") {
		f.t.Errorf("check: %+v", r)
	}
	r = f.run("unionfs", "check", "--fail-if", "suid>0", "--format", "github", "app:1")
	f.sees(r.out, "::error title=unionfs check suid>0::app:1: suid is 1, more than 0%0A/bin/tool\n")
	if r.code != 1 {
		f.t.Errorf("exit code %d", r.code)
	}
	f.ok("check", "--fail-if", "waste>1MB", "app:1")
	f.fails(f.run("unionfs", "check", "app:1"), 2, "no rules")
	f.fails(f.run("unionfs", "check", "--fail-if", "odd>1", "app:1"), 2, "no number")
}

func TestInspectALiveMount(t *testing.T) {
	f := inspectFixture(t)
	f.mount("--upper", "upper2", "-o", "redirect_dir=on", "app:1", "m")
	f.sh(`printf 'three\n' >>m/etc/conf; mv m/var m/srv; cat m/bin/tool >tool; touch -r m/bin/tool tool; cat tool >m/bin/tool; chmod 4755 m/bin/tool; touch -r tool m/bin/tool`)
	want := "C /bin\n= /bin/tool\nC /etc\nC /etc/conf\nR /var -> /srv\n"
	f.sees(f.ok("diff", "m"), want)
	f.sees(f.ok("diff", "upper2"), want)
	patch := f.ok("diff", "-p", "m")
	if !strings.Contains(patch, "--- a/etc/conf\n+++ b/etc/conf\n@@ -1 +1,2 @@\n two\n+three\n") {
		t.Errorf("patch:\n%s", patch)
	}
	var why struct {
		Layer  int
		Events []struct {
			Layer     int
			Event     string
			CreatedBy string `json:"createdBy"`
			What      []string
		}
	}
	f.decode(f.ok("why", "--json", "m", "/etc/conf"), &why)
	if e := why.Events; len(e) != 3 || why.Layer != 0 || e[0].Event != "added" || e[0].Layer != 2 || e[2].Event != "modified" || e[2].What[0] != "content" ||
		e[1].CreatedBy == "" {
		t.Errorf("why: %+v", why)
	}
	text := f.ok("why", "m:/etc/old")
	for _, part := range []string{"layer 2   added ", "layer 1   deleted ", "by a whiteout", "not shown: layer 1 took it away"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in why:\n%s", part, text)
		}
	}
	if text = f.ok("why", "m", "/srv"); !strings.Contains(text, "renamed") || !strings.Contains(text, "from /var") {
		t.Errorf("why /srv:\n%s", text)
	}
	f.ok("umount", "m")

	// The same of the bare upper with its layers named.
	f.sees(f.ok("diff", "--lower", "app:1", "upper2"), want)
	f.sh(`tar -cf top.tar -C base etc`)
	f.sees(f.ok("diff", "--lower", "upper2", "--lower", "app:1", "top.tar"), "C /etc\nC /etc/conf\nA /etc/old\n")
	f.fails(f.run("unionfs", "diff", "./nowhere"), 3, "does not exist")
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	f := inspectFixture(t)
	if _, err := os.Stat("/usr/bin/script"); err != nil {
		t.Skip("needs script(1) for a terminal")
	}
	onTerminal := func(env string) string {
		return f.sh(env + ` TERM=xterm script -qec "$BIN/unionfs diff app:1" /dev/null`)
	}
	t.Setenv("BIN", binDir)
	t.Setenv("NO_COLOR", "")
	if out := onTerminal(""); !strings.Contains(out, "\x1b[31mD /etc/old\x1b[0m") {
		t.Errorf("on a terminal: %q", out)
	}
	if out := onTerminal("NO_COLOR=1"); strings.Contains(out, "\x1b[3") {
		t.Errorf("with NO_COLOR: %q", out)
	}
	if out := f.ok("diff", "app:1"); strings.Contains(out, "\x1b") {
		t.Errorf("into a pipe: %q", out)
	}
}
