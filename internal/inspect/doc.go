// Package inspect is the model of the inspector: what every layer of a stack
// says about every path. The commands, the explorer and the reports share it.
// It knows no terminal.
//
// A Model is one tree of all paths that any layer names (Node), made once by
// Build. A node has a Version for each layer that says something about it: an
// object, or a whiteout. Layers are numbered as everywhere, 0 is the top.
//
// The stack of the layers K and below, without those above, is called view K;
// view 0 is what a mount shows, view Len()-1 the lowest layer alone. A version
// is visible in the views Until < K <= Since, where Since is its own layer and
// Until the nearest layer above it that hides it:
//
//	why               what layer Until has
//	WhyReplaced       another object under the same name
//	WhyWhiteout       a whiteout of the name, or of a directory above it (By)
//	WhyOpaque         an opaque directory above it (By)
//	WhyShadowed       something that is no directory where one above it was (By)
//	WhyMoved          a directory above it (By) that takes its content from elsewhere
//
// So nothing is ever stacked again: what any view shows is one search among the
// few versions of a node, and the difference of two views is one walk.
//
// A directory that was renamed with a redirect shows what lies below its old
// place. The versions of that content appear twice: at the old path, and, with a
// Since above their layer (Borrowed), at the new one.
//
//	m, err := inspect.Build(ctx, sources)       // or OpenImage, OpenLayers
//	n, ok := m.Find("/etc/passwd")
//	v, ok := m.At(n, 0)                         // what the mount shows
//	for _, e := range m.Life(n) { ... }         // added, modified, hidden, why
//	f, err := m.Open(v)                         // bytes of any version
//	m.Compare(ctx, inspect.View{m, 1}, inspect.View{m, 0}, opt, func(Change) error)
//	m.Waste(ctx)                                // what is shipped and not shown
//
// Memory is about 100 bytes and the name for each path and layer.
package inspect
