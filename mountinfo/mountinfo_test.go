package mountinfo

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const small = `1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:20 / /proc rw - proc proc rw
3 1 0:50 / /mnt/u rw,nosuid shared:7 master:2 - fuse.unionfs debian:12 rw,user_id=1000,group_id=1000
4 3 0:51 / /mnt/u/in rw - tmpfs tmpfs rw
5 1 0:50 / /mnt/bind rw - fuse.unionfs debian:12 rw
6 1 8:1 /srv/layers /mnt/l rw - ext4 /dev/sda1 rw
7 1 0:52 / /mnt/sp\040ace\134\011\012 rw - fuse.unionfs  rw
8 7 0:53 / /mnt/sp\040ace\134\011\012 rw - tmpfs tmpfs rw
9 1 0:54 / /cov/er/ed rw - tmpfs below rw
10 1 0:55 / /cov rw - tmpfs above rw
`

func parse(t *testing.T, s string) Table {
	t.Helper()
	table, err := Parse(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestParseFields(t *testing.T) {
	table := parse(t, small)
	want := Info{
		ID: 3, Parent: 1, Minor: 50, Root: "/", Mountpoint: "/mnt/u", Options: "rw,nosuid",
		Optional: []string{"shared:7", "master:2"}, FSType: "fuse.unionfs", Source: "debian:12", Super: "rw,user_id=1000,group_id=1000",
	}
	if !reflect.DeepEqual(table[2], want) {
		t.Errorf("got %+v\nwant %+v", table[2], want)
	}
	if m := table[6]; m.Mountpoint != "/mnt/sp ace\\\t\n" || m.Source != "" {
		t.Errorf("escapes: %+v", m)
	}
	if v, ok := table[2].Option("user_id"); v != "1000" || !ok {
		t.Errorf("Option: %q %v", v, ok)
	}
	if _, ok := table[2].Option("uid"); ok {
		t.Error("Option found what is not there")
	}
}

func TestCoveringFollowsThePathWalk(t *testing.T) {
	table := parse(t, small)
	for path, want := range map[string]int{
		"/": 1, "/mnt": 1, "/mnt/u": 3, "/mnt/u/x": 3, "/mnt/u/in/x": 4, "/mnt/uu": 1,
		"/cov/er/ed/x": 10, "/mnt/sp ace\\\t\n/x": 8,
	} {
		if m, ok := table.Covering(path); !ok || m.ID != want {
			t.Errorf("Covering(%q) = %d, want %d", path, m.ID, want)
		}
	}
	if m, ok := table.At("/cov/er/ed"); ok {
		t.Errorf("a covered mount was found: %+v", m)
	}
	if m, ok := table.At("/mnt/u"); !ok || m.ID != 3 {
		t.Errorf("At: %+v %v", m, ok)
	}
	if _, ok := (Table{}).Covering("/x"); ok {
		t.Error("an empty table covers something")
	}
}

func TestFilters(t *testing.T) {
	table := parse(t, small)
	ids := func(t Table) (out []int) {
		for _, m := range t {
			out = append(out, m.ID)
		}
		return out
	}
	if got := ids(table.Ours()); !reflect.DeepEqual(got, []int{3, 7}) {
		t.Errorf("Ours: %v", got)
	}
	if got := ids(table.Under("/mnt/u")); !reflect.DeepEqual(got, []int{3, 4}) {
		t.Errorf("Under: %v", got)
	}
	if got := ids(table.On(3)); !reflect.DeepEqual(got, []int{4}) {
		t.Errorf("On: %v", got)
	}
}

func TestPlaceSeesThroughBindMounts(t *testing.T) {
	table := parse(t, small)
	a, _ := table.Place("/srv/layers/base/sub")
	b, _ := table.Place("/mnt/l/base")
	if !b.Contains(a) || a.Contains(b) {
		t.Errorf("%+v should contain %+v", b, a)
	}
	if p, _ := table.Place("/"); p.Path != "/" || !p.Contains(a) {
		t.Errorf("root: %+v", p)
	}
	if p, _ := table.Place("/mnt/u/x"); p.Contains(a) || p.Path != "/x" {
		t.Errorf("other device: %+v", p)
	}
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"1 0 8:1 / / rw":                       "line 1: 6 fields are too few",
		"1 0 8:1 / / rw a b c d e f":           "no separator",
		"1 0 8:1 / / rw shared:1 a b - ext4 x": "no separator",
		"x 0 8:1 / / rw - ext4 /dev/sda1 rw":   "mount id",
		"1 y 8:1 / / rw - ext4 /dev/sda1 rw":   "parent id",
		"1 0 81 / / rw - ext4 /dev/sda1 rw":    "MAJOR:MINOR",
		"\n1 0 8 / / rw - ext4 /dev/sda1 rw":   "line 2",
	} {
		if _, err := Parse(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

func TestRealTables(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, f := range append(files, "/proc/self/mountinfo") {
		table, err := ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := table.Covering("/proc/self"); !ok || m.FSType != "proc" {
			t.Errorf("%s: /proc is on %+v", f, m)
		}
	}
	table, err := ReadFile("testdata/overlay.txt")
	if err != nil {
		t.Fatal(err)
	}
	overlays := table.Filter(func(m *Info) bool { return m.FSType == "overlay" })
	if len(overlays) != 1 {
		t.Fatalf("overlays: %+v", overlays)
	}
	lower, _ := overlays[0].Option("lowerdir")
	upper, _ := overlays[0].Option("upperdir")
	const dir = "/tmp/tmp.WtmIaguHhY"
	if lower != dir+`/co\:l\,on:`+dir+"/a" || upper != dir+"/u" {
		t.Errorf("lowerdir=%s upperdir=%s", lower, upper)
	}
}

func TestResolveDoesNotTouchTheMount(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/real", 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"dir": ".", "last": "real"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	// "gone" exists only in the table: any access to it would fail.
	table := Table{{ID: 1, Mountpoint: "/"}, {ID: 2, Parent: 1, Mountpoint: dir + "/gone"}}
	for in, want := range map[string]string{"gone": "gone", "dir/gone": "gone", "last": "real", "dir/dir/real": "real"} {
		if got, err := table.Resolve(filepath.Join(dir, in)); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("Resolve(%s) = %s, %v", in, got, err)
		}
	}
	if _, err := table.Resolve(dir + "/none"); !os.IsNotExist(err) {
		t.Errorf("missing: %v", err)
	}
}

// FuzzParse checks that no table makes the parser or the queries fail badly.
func FuzzParse(f *testing.F) {
	f.Add(small)
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("1 1 0:0 / / rw - a b c\n1 1 0:0 / / rw - a b c\n")
	f.Fuzz(func(t *testing.T, s string) {
		table, err := Parse(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, m := range table {
			got, ok := table.At(m.Mountpoint)
			if ok && got.Mountpoint != m.Mountpoint {
				t.Fatalf("At(%q) is %q", m.Mountpoint, got.Mountpoint)
			}
			m.Option("upperdir")
		}
		if len(table.Ours()) > len(table) {
			t.Fatal("more ours than all")
		}
	})
}
