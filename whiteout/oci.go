package whiteout

import "strings"

// The names that AUFS and OCI layers use for marks (image-spec layer.md).
const (
	// Prefix begins the name of a whiteout of the rest of the name.
	Prefix = ".wh."
	// OpaqueName marks its directory as opaque.
	OpaqueName = ".wh..wh..opq"
	// metaPrefix begins names that AUFS keeps for itself.
	metaPrefix = ".wh..wh."
	// strayOpaque is a device that fuse-overlayfs 1.10 leaves by mistake.
	strayOpaque = ".wh..opq"
)

// OCIName is the name of the file that deletes name in an OCI layer.
func OCIName(name string) string { return Prefix + name }

// NameKind is what a name means in an AUFS or OCI layer.
type NameKind uint8

// The kinds of name.
const (
	Plain       NameKind = iota // an ordinary name
	Deletes                     // a whiteout of another name
	MakesOpaque                 // the opaque mark of its directory
	Reserved                    // bookkeeping, or invalid: to be ignored
)

// ParseOCIName tells what name means in an AUFS or OCI layer; victim is the
// name a whiteout deletes.
func ParseOCIName(name string) (kind NameKind, victim string) {
	if !strings.HasPrefix(name, Prefix) {
		return Plain, ""
	}
	switch {
	case name == OpaqueName:
		return MakesOpaque, ""
	case name == Prefix, name == strayOpaque, strings.HasPrefix(name, metaPrefix):
		return Reserved, ""
	}
	victim = name[len(Prefix):]
	if victim == "." || victim == ".." {
		return Reserved, ""
	}
	return Deletes, victim
}

// Representable tells whether a file of this name can be in an OCI layer: names
// beginning with ".wh." cannot.
func Representable(name string) bool { return !strings.HasPrefix(name, Prefix) }
