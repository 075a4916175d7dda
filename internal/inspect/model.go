package inspect

import (
	"bytes"
	"errors"
	"iter"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// Layer is what is known of one layer of a model.
type Layer struct {
	Index     int           `json:"index"` // 0 is the top
	Name      string        `json:"name"`
	Upper     bool          `json:"upper,omitempty"` // the writable layer of a mount
	Digest    digest.Digest `json:"digest,omitempty"`
	DiffID    digest.Digest `json:"diffID,omitempty"`
	BlobBytes int64         `json:"blobBytes,omitempty"` // as it is shipped, mostly compressed
	Created   *time.Time    `json:"created,omitempty"`
	CreatedBy string        `json:"createdBy,omitempty"`
	Comment   string        `json:"comment,omitempty"`

	// What is in it, counted by Build.
	Entries   int   `json:"entries"` // names that it has, whiteouts left out
	Files     int   `json:"files"`   // regular files, hard links counted once
	FileBytes int64 `json:"fileBytes"`
	Whiteouts int   `json:"whiteouts"`
	Opaques   int   `json:"opaques"`
	// What it does to the layers below.
	Added    int `json:"added"`
	Modified int `json:"modified"` // directories only where owner or mode differ
	Deleted  int `json:"deleted"`  // paths that are gone, with all below them
}

// Step is one line of an image's history, newest first.
type Step struct {
	Layer     int        `json:"layer"` // -1: it made none
	Created   *time.Time `json:"created,omitempty"`
	CreatedBy string     `json:"createdBy,omitempty"`
	Comment   string     `json:"comment,omitempty"`
}

// Source is one layer to make a model of, with what the caller knows of it:
// Index and the counted fields of Info are not read.
type Source struct {
	Layer stack.Layer
	Info  Layer
}

// Node is one path of a model.
type Node int32

// Root is the node of "/"; None is no node.
const (
	Root Node = 0
	None Node = -1
)

// Model is the merged index of all layers. It is immutable, and its methods but
// Close may be called concurrently.
type Model struct {
	History []Step // of an image, empty for other subjects

	layers   []Layer
	stacks   []*stack.Stack // view K at K
	nodes    []node
	versions []version
	names    []byte
	devs     []uint64
	data     map[int32]identity // metacopy version -> where its bytes are
	moves    map[Node][]Move
	closers  []func() error
}

// Move is a directory, or a file without data of its own, that a layer renamed
// by a redirect.
type Move struct {
	Layer int    `json:"layer"`
	From  string `json:"from"`
}

// node is one path. Its children follow each other and are sorted by name; so
// do its versions, the topmost first.
type node struct {
	parent   Node
	child    Node // first child
	children int32
	version  int32 // first version
	name     uint32
	nameLen  uint16
	versions uint16
}

// identity tells inodes of all layers apart.
type identity struct {
	ino   uint64
	dev   uint16
	layer int16
}

// Len is the number of layers.
func (m *Model) Len() int { return len(m.layers) }

// Nodes is the number of paths; nodes are the numbers below it, parents before
// their children.
func (m *Model) Nodes() int { return len(m.nodes) }

// Layers returns all layers, top first; the caller must not change them.
func (m *Model) Layers() []Layer { return m.layers }

// Layer returns layer i.
func (m *Model) Layer(i int) *Layer { return &m.layers[i] }

// Name is the last part of a node's path, "" of the root.
func (m *Model) Name(n Node) string { return string(m.name(n)) }

func (m *Model) name(n Node) []byte {
	d := &m.nodes[n]
	return m.names[d.name : d.name+uint32(d.nameLen)]
}

// Parent is the directory that a node is in, None of the root.
func (m *Model) Parent(n Node) Node { return m.nodes[n].parent }

// Path is the path of a node, "/" of the root.
func (m *Model) Path(n Node) string {
	if n <= Root {
		return "/"
	}
	size := 0
	for i := n; i != Root; i = m.nodes[i].parent {
		size += int(m.nodes[i].nameLen) + 1
	}
	b := make([]byte, size)
	for i := n; i != Root; i = m.nodes[i].parent {
		name := m.name(i)
		size -= len(name)
		copy(b[size:], name)
		size--
		b[size] = '/'
	}
	return string(b)
}

// Children gives the nodes below n in any layer, sorted by name.
func (m *Model) Children(n Node) iter.Seq[Node] {
	d := &m.nodes[n]
	return func(yield func(Node) bool) {
		for i := range Node(d.children) {
			if !yield(d.child + i) {
				return
			}
		}
	}
}

// NumChildren is how many children a node has, in any layer.
func (m *Model) NumChildren(n Node) int { return int(m.nodes[n].children) }

// Child finds a child by its name.
func (m *Model) Child(n Node, name string) (Node, bool) {
	d := &m.nodes[n]
	want := []byte(name)
	i := sort.Search(int(d.children), func(i int) bool { return bytes.Compare(m.name(d.child+Node(i)), want) >= 0 })
	c := d.child + Node(i)
	if i == int(d.children) || !bytes.Equal(m.name(c), want) {
		return None, false
	}
	return c, true
}

// Find finds the node of a path; no symlink is followed, "." and empty parts
// are skipped and ".." goes up.
func (m *Model) Find(path string) (Node, bool) {
	n := Root
	for _, part := range strings.Split(path, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			n = max(m.nodes[n].parent, Root)
			continue
		}
		c, ok := m.Child(n, part)
		if !ok {
			return None, false
		}
		n = c
	}
	return n, true
}

// Moves tells from where layers renamed a node by redirects.
func (m *Model) Moves(n Node) []Move { return m.moves[n] }

// Stack is a view as a stack, for what needs the layers themselves.
func (m *Model) Stack(view int) *stack.Stack { return m.stacks[view] }

// Close closes the layers that were opened for the model, see OpenImage.
func (m *Model) Close() error {
	var errs []error
	for _, f := range m.closers {
		errs = append(errs, f())
	}
	m.closers = nil
	return errors.Join(errs...)
}
