package inspect

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// wasteImage has the shape of the four layers of reference/layers.md in small,
// with the cases that other tools get wrong.
const wasteImage = `
== RUN rebuild && rm
wh etc/deleted
wh usr/share/doc
opq opt
file opt/again size=5
file usr/bin/tool size=31
file usr/bin/chmodded size=70 mode=0755
== RUN nothing but deleting
wh var/cache
== RUN install
file usr/bin/tool size=30
file var/cache/pkg size=500
file opt/again size=7
file opt/lost size=11
hard opt/lost2 to=opt/lost
file usr/linked size=40
== ADD base
file etc/deleted size=100
file usr/share/doc/a size=13
file usr/share/doc/deep/b size=17
file usr/bin/tool size=29
file usr/bin/chmodded size=70
file opt/older size=3
file kept size=1000
hard keptlink to=kept
file onlyname size=9
hard usr/linked to=onlyname
`

func TestWasteOfKnownImage(t *testing.T) {
	m := model(t, wasteImage)
	w, err := m.Waste(context.Background())
	must(t, err)
	// Shipped: 5+31+70, 0, 30+500+7+11+40, 100+13+17+29+70+3+1000+9.
	if want := int64(106 + 588 + 1241); w.Shipped != want {
		t.Errorf("shipped %d bytes, want %d", w.Shipped, want)
	}
	// tool twice, opt/again once.
	if want := (WasteSum{3, 30 + 29 + 7}); w.Overwritten != want {
		t.Errorf("overwritten %v, want %v", w.Overwritten, want)
	}
	// etc/deleted, two in doc, cache, opt/lost once though it has two names, opt/older.
	if want := (WasteSum{6, 100 + 13 + 17 + 500 + 11 + 3}); w.Deleted != want {
		t.Errorf("deleted %v, want %v", w.Deleted, want)
	}
	if want := (WasteSum{1, 70}); w.Metadata != want {
		t.Errorf("metadata %v, want %v", w.Metadata, want)
	}
	if w.Live+w.Reclaimable != w.Shipped || w.Reclaimable != w.Overwritten.Bytes+w.Deleted.Bytes+w.Metadata.Bytes {
		t.Errorf("live %d, reclaimable %d, shipped %d do not add up", w.Live, w.Reclaimable, w.Shipped)
	}
	if want := float64(w.Live) / float64(w.Shipped); w.Efficiency != want {
		t.Errorf("efficiency %v, want %v", w.Efficiency, want)
	}
	var caused, own []int64
	for _, l := range w.Layers {
		caused, own = append(caused, l.Caused), append(own, l.Reclaimable)
	}
	if want := []int64{100 + 13 + 17 + 11 + 3 + 30 + 7 + 70, 500, 29, 0}; !slices.Equal(caused, want) {
		t.Errorf("caused by layers %v, want %v", caused, want)
	}
	if want := []int64{0, 0, 30 + 500 + 7 + 11, 100 + 13 + 17 + 29 + 70 + 3}; !slices.Equal(own, want) {
		t.Errorf("reclaimable in layers %v, want %v", own, want)
	}
	if p := w.Paths[0]; p.Path != "/var/cache/pkg" || p.Bytes != 500 || p.Copies[0].HiddenBy != 1 || p.Copies[0].Layer != 2 {
		t.Errorf("worst is %+v", p)
	}
	i := slices.IndexFunc(w.Paths, func(p PathWaste) bool { return p.Path == "/usr/bin/tool" })
	if p := w.Paths[i]; p.Bytes != 59 || len(p.Copies) != 2 {
		t.Errorf("tool wastes %+v", p)
	}
}

func TestNothingShippedIsNoWaste(t *testing.T) {
	w, err := model(t, "==\ndir a\nwh b").Waste(context.Background())
	must(t, err)
	if w.Shipped != 0 || w.Reclaimable != 0 || w.Efficiency != 1 {
		t.Errorf("an empty layer: %+v", w)
	}
}

func TestRenamedAndMetacopiedFilesAreNotWasted(t *testing.T) {
	low, up := t.TempDir(), t.TempDir()
	put(t, low, "file", "old/data", "0123456789")
	put(t, low, "file", "old/gone", "01234")
	put(t, low, "file", "big", "0123456")
	put(t, up, "wh", "old", "")
	put(t, up, "dir", "new", "", "redirect", "old")
	put(t, up, "wh", "new/gone", "")
	put(t, up, "file", "big", "-------", "metacopy", "")
	must(t, os.Chmod(filepath.Join(up, "big"), 0o600))
	m := dirModel(t, up, low)
	w, err := m.Waste(context.Background())
	must(t, err)
	if w.Shipped != 22 || w.Reclaimable != 5 || w.Deleted.Files != 1 {
		t.Errorf("%+v", w)
	}
	changes, err := Compare(context.Background(), View{m, 1}, View{m, 0})
	must(t, err)
	checkChanges(t, changes, "C /big mode", "R /old -> /new", "D /new/gone")
}
