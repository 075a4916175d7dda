package inspect

// count fills in the numbers of the layers.
func (m *Model) count() {
	seen := map[identity]bool{}
	for n := range Node(len(m.nodes)) {
		from, to := m.own(n)
		for i := from; i < to; i++ {
			m.countVersion(n, &m.versions[i], seen)
		}
	}
}

func (m *Model) countVersion(n Node, v *version, seen map[identity]bool) {
	if v.until >= 0 && v.flags&flagWhiteout == 0 && m.at(n, int(v.until)) < 0 {
		m.layers[v.until].Deleted++
	}
	if v.since != v.layer {
		return // it is counted at its own path
	}
	l := &m.layers[v.layer]
	if v.flags&flagWhiteout != 0 {
		l.Whiteouts++
		return
	}
	if v.flags&flagOpaque != 0 {
		l.Opaques++
	}
	if n != Root {
		l.Entries++
		m.countChange(n, v, l)
	}
	if !v.countedOnce(seen) {
		return
	}
	l.Files++
	l.FileBytes += v.bytes()
}

// countedOnce tells whether v is a regular file whose inode was not seen yet.
func (v *version) countedOnce(seen map[identity]bool) bool {
	if !isFile(v.mode) {
		return false
	}
	if v.nlink > 1 {
		id := v.identity()
		if seen[id] {
			return false
		}
		seen[id] = true
	}
	return true
}

func (m *Model) countChange(n Node, v *version, l *Layer) {
	old := m.at(n, int(v.layer)+1)
	if old < 0 {
		l.Added++
		return
	}
	o := &m.versions[old]
	if isDir(v.mode) && v.mode == o.mode && v.uid == o.uid && v.gid == o.gid {
		return
	}
	l.Modified++
}
