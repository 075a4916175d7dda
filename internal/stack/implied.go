package stack

import "github.com/unionfs-go/unionfs/whiteout"

// Implier is a directory that knows whether its layer says anything about it.
// An archive need not mention the parents of what it holds; such a directory
// has no attributes of its own. Where it merges with directories below, it is
// shown with the attributes of the first of them that is mentioned, as if the
// archive had been unpacked over them (containerd's archive/tar.go: mkparent).
type Implier interface {
	Dir
	// Implied tells whether the layer only names things in the directory.
	Implied() bool
}

// borrow gives the topmost of merged directories the attributes of one below
// where it has none of its own.
func borrow(reals []Real) {
	if len(reals) < 2 || !isImplied(reals[0]) {
		return
	}
	top, ok := reals[0].Dir()
	if !ok {
		return
	}
	for _, r := range reals[1:] {
		if !isImplied(r) {
			reals[0].Object = borrower{top, r.Object}
			return
		}
	}
}

func isImplied(r Real) bool {
	d, ok := r.Object.(Implier)
	return ok && d.Implied()
}

// borrower is a directory with the attributes of another. Its inode number and
// handle are the other's too, so that they tell one object in all respects.
type borrower struct {
	Dir
	from Object
}

func (b borrower) Attr() Attr                        { return b.from.Attr() }
func (b borrower) Xattrs() ([]string, error)         { return b.from.Xattrs() }
func (b borrower) Xattr(attr string) ([]byte, error) { return b.from.Xattr(attr) }
func (b borrower) Handle() ([]byte, error)           { return b.from.Handle() }

// Marks are the directory's own, but for those that tell of attributes.
func (b borrower) Marks() whiteout.Marks {
	m, from := b.Dir.Marks(), b.from.Marks()
	m.HasACL, m.HasCaps, m.HasOther = from.HasACL, from.HasCaps, from.HasOther
	return m
}
