package inspect

// Sums are the numbers of every node together with all below it, as one view
// and its topmost layer have them; the index is the node. A file with several
// names counts once, under the first of them that counts.
type Sums struct {
	Shown  []int64 // bytes of the regular files that the view shows
	Hidden []int64 // bytes that its layers ship and the view does not show
	Own    []int64 // bytes that the view's topmost layer ships
	// Changed: the topmost layer adds, modifies or deletes something there.
	Changed []bool
}

// Sums adds up a view. Hidden of the root in view 0 is Waste.Reclaimable.
func (m *Model) Sums(view int) *Sums {
	size := len(m.nodes)
	s := &Sums{Shown: make([]int64, size), Hidden: make([]int64, size), Own: make([]int64, size), Changed: make([]bool, size)}
	a := adder{m: m, view: view, live: m.liveInodes(view), shown: map[identity]bool{}, dead: map[identity]bool{}, own: map[identity]bool{}}
	for n := range Node(size) {
		a.node(n, s)
	}
	for n := Node(size) - 1; n > Root; n-- {
		p := m.nodes[n].parent
		s.Shown[p] += s.Shown[n]
		s.Hidden[p] += s.Hidden[n]
		s.Own[p] += s.Own[n]
		s.Changed[p] = s.Changed[p] || s.Changed[n]
	}
	return s
}

// adder adds up the versions of one node after the other.
type adder struct {
	m                *Model
	view             int
	live             map[identity]bool // see liveInodes
	shown, dead, own map[identity]bool // files that were counted
}

func (a *adder) node(n Node, s *Sums) {
	from, to := a.m.own(n)
	for i := from; i < to; i++ {
		v := &a.m.versions[i]
		if int(v.layer) < a.view {
			continue
		}
		if int(v.until) == a.view {
			s.Changed[n] = s.Changed[n] || a.m.changes(n, a.view)
		}
		mine := v.since == v.layer
		if mine && int(v.layer) == a.view {
			s.Changed[n] = s.Changed[n] || a.m.changes(n, a.view)
			if v.countedOnce(a.own) {
				s.Own[n] += v.bytes()
			}
		}
		switch {
		case !isFile(v.mode) || v.flags&flagWhiteout != 0:
		case v.visibleIn(a.view):
			s.Shown[n] += a.showing(i, v)
		case mine && !a.live[v.identity()] && v.countedOnce(a.dead):
			s.Hidden[n] += v.bytes()
		}
	}
}

// showing is what a visible file adds to what is shown.
func (a *adder) showing(i int32, v *version) int64 {
	id := v.identity()
	data, metacopy := a.m.data[i]
	if metacopy {
		id = data
	}
	if metacopy || v.nlink > 1 || v.since != v.layer {
		if a.shown[id] {
			return 0
		}
		a.shown[id] = true
	}
	if v.flags&flagDangling != 0 {
		return 0
	}
	return v.size
}

// changes tells whether a path looks otherwise in a view than below its topmost
// layer; of two directories only owner and mode count.
func (m *Model) changes(n Node, view int) bool {
	now, old := m.at(n, view), int32(-1)
	if view+1 < m.Len() {
		old = m.at(n, view+1)
	}
	if now < 0 || old < 0 || now == old {
		return now != old
	}
	a, b := &m.versions[old], &m.versions[now]
	return !isDir(a.mode) || a.mode != b.mode || a.uid != b.uid || a.gid != b.gid
}
