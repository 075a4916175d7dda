package inspect

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func checkChanges(t *testing.T, changes []Change, want ...string) {
	t.Helper()
	var got []string
	for _, c := range changes {
		line := c.Kind.Letter() + " " + c.Path
		if c.Kind == Renamed {
			line = "R " + c.From + " -> " + c.Path
		}
		if c.What != 0 {
			line += " " + c.What.String()
		}
		got = append(got, line)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCompareTellsEveryKindOfChange(t *testing.T) {
	m := model(t, `
==
file a/new data=n
file a/content data=yy
file a/mode data=m mode=0600
file a/owner data=o uid=7
file a/touched data=t mtime=2000
file a/same data=s
file a/attr data=x x.user.k=2
link a/link to=there
wh gone
opq opaque
file opaque/stays data=1
file todir/in data=1
file tofile data=1
dir untouched
==
file a/content data=xx
file a/mode data=m
file a/owner data=o
file a/touched data=t
file a/same data=s
file a/attr data=x x.user.k=1
link a/link to=here
file gone/x data=1234
file gone/y/z data=12
file opaque/stays data=1
file opaque/lost data=1
file todir data=1
file tofile/was data=1
dir untouched
`)
	changes, err := Compare(context.Background(), View{m, 1}, View{m, 0})
	must(t, err)
	checkChanges(t, changes, "C /a", "A /a/new", "C /a/content content", "C /a/mode mode", "C /a/owner owner", "C /a/touched mtime", "= /a/same",
		"C /a/attr xattr", "C /a/link target", "D /gone", "C /opaque", "= /opaque/stays", "D /opaque/lost",
		"C /todir type,mode", "A /todir/in", "C /tofile type,mode")
	i := slices.IndexFunc(changes, func(c Change) bool { return c.Path == "/gone" })
	if c := changes[i]; c.Entries != 4 || c.Bytes != 6 {
		t.Errorf("deleted with %d entries and %d bytes", c.Entries, c.Bytes)
	}
	if !slices.IsSortedFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) }) {
		t.Error("not sorted")
	}
}

func TestCompareOfTwoModelsIgnoresTimes(t *testing.T) {
	a := model(t, "==\nfile d/a data=1 mtime=5\nfile d/b data=22")
	b := model(t, "==\nfile d/a data=1 mtime=6\n==\nfile d/b data=33\nfile c data=1")
	changes, err := Compare(context.Background(), View{a, 0}, View{b, 0})
	must(t, err)
	checkChanges(t, changes, "A /c", "C /d", "C /d/b content")
	if changes, err = Compare(context.Background(), View{a, 0}, View{a, 1}); err != nil || len(changes) != 1 {
		t.Errorf("against nothing: %v %v", changes, err)
	}
}

func TestLifeOfPaths(t *testing.T) {
	m := model(t, `
== four
file d/f data=4
file e/x data=1
== three
wh d
file e data=1
wh never
== two
file d/f data=22 mode=0600
opq e
== one
file d/f data=1
file e/x data=1
`)
	for path, want := range map[string]string{
		"/d/f":   "3 added, 2 modified content,mode, 1 hidden by whiteout of /d, 0 recreated",
		"/e/x":   "3 added, 2 hidden by opaque of /e, 0 recreated",
		"/never": "1 deleted useless",
		"/d":     "3 added, 2 modified , 1 deleted, 0 recreated",
	} {
		n, ok := m.Find(path)
		if !ok {
			t.Errorf("%s is not in the model", path)
			continue
		}
		events, err := m.Life(context.Background(), n)
		must(t, err)
		var got []string
		for _, e := range events {
			s := string('0'+rune(e.Layer)) + " " + string(e.Kind)
			if e.Kind == EventModified {
				s += " " + e.What.String()
			}
			if e.Kind == EventHidden {
				s += " by " + e.Why.String() + " of " + m.Path(e.By)
			}
			if e.Useless {
				s += " useless"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s: %s; want %s", path, s, want)
		}
	}
}
