package realtest

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unionfs-go/unionfs/internal/difftest"
)

// noise are files whose content tells when or where a program ran, so that it
// differs between two runs on anything: only their existence, type, mode and
// owner are compared.
var noise = []string{
	"var/log/dpkg.log",
	"var/log/apt/history.log",
	"var/log/apt/term.log",
	"var/log/apt/eipp.log.xz",
	"var/log/alternatives.log",
	"var/log/lastlog",
	"var/cache/ldconfig/aux-cache", // inode numbers and change times
}

// begun is when the tests began: later times are shown as "now" in dumps.
var begun = time.Now()

var (
	contentRE = regexp.MustCompile(` sz=\d+| =\S*$`)
	// The link count of a directory says nothing on a union: the kernel shows 1
	// for a merged one.
	dirLinksRE = regexp.MustCompile(` dn=\d+`)
)

// dump lists a tree, without what may differ.
func dump(t *testing.T, root string) []string {
	t.Helper()
	lines, err := difftest.Dump(root, difftest.DumpOptions{Now: begun})
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		line = dirLinksRE.ReplaceAllString(line, "")
		if slices.Contains(noise, pathOf(line)) {
			line = contentRE.ReplaceAllString(line, "")
		}
		lines[i] = line
	}
	return lines
}

// pathOf is the quoted path that a line of a dump begins with.
func pathOf(line string) string {
	quoted, err := strconv.QuotedPrefix(line)
	if err != nil {
		return ""
	}
	path, err := strconv.Unquote(quoted)
	if err != nil {
		return ""
	}
	return path
}

// sameLines compares two sorted lists and shows what is only in one of them.
func sameLines(t *testing.T, what, leftName string, left []string, rightName string, right []string) {
	t.Helper()
	in := map[string]int{}
	for _, l := range left {
		in[l]++
	}
	for _, r := range right {
		in[r]--
	}
	var diff []string
	for line, n := range in {
		switch {
		case n > 0:
			diff = append(diff, fmt.Sprintf("%s  only %s", line, leftName))
		case n < 0:
			diff = append(diff, fmt.Sprintf("%s  only %s", line, rightName))
		}
	}
	if len(diff) == 0 {
		return
	}
	sort.Strings(diff)
	count := len(diff)
	t.Errorf("%s: %d lines differ of %d:\n%s", what, count, len(left), strings.Join(diff[:min(count, 60)], "\n"))
}

// entries lists what a layer tar holds, without what may differ.
func entries(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	var lines []string
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		line := fmt.Sprintf("%q %c %04o %d:%d ->%q dev=%d:%d", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid,
			h.Linkname, h.Devmajor, h.Devminor)
		if h.ModTime.Before(begun.Add(-12 * time.Hour)) {
			line += fmt.Sprintf(" m=%d", h.ModTime.Unix())
		}
		var records []string
		for key, value := range h.PAXRecords {
			if strings.HasPrefix(key, "SCHILY.xattr.") {
				records = append(records, fmt.Sprintf(" %s=%x", key, value))
			}
		}
		sort.Strings(records)
		line += strings.Join(records, "")
		if h.Typeflag == tar.TypeReg && !slices.Contains(noise, h.Name) {
			sum := sha256.New()
			if _, err := io.Copy(sum, r); err != nil {
				t.Fatalf("%s: read %s: %v", name, h.Name, err)
			}
			line += fmt.Sprintf(" %d %x", h.Size, sum.Sum(nil))
		}
		lines = append(lines, line)
	}
}

func TestDumpLinesLoseOnlyNoise(t *testing.T) {
	const line = `"var/log/dpkg.log" f 0644 0:0 n=1 sz=12 m=now =abc`
	if got := pathOf(line); got != "var/log/dpkg.log" {
		t.Errorf("path %q", got)
	}
	if got := contentRE.ReplaceAllString(line, ""); got != `"var/log/dpkg.log" f 0644 0:0 n=1 m=now` {
		t.Errorf("without noise: %s", got)
	}
}
