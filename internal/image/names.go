package image

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Reference is a name of an image as users write it.
type Reference struct {
	Name   string        // "app", "host:5000/team/app"; never a tag
	Tag    string        // "latest" where none was given and there is no digest
	Digest digest.Digest // of NAME@sha256:...
}

// DefaultTag is the tag of a name without one.
const DefaultTag = "latest"

var (
	nameComponent = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
	hostComponent = `[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?`
	nameRE        = regexp.MustCompile(`^(?:` + hostComponent + `/)?` + nameComponent + `(?:/` + nameComponent + `)*$`)
	tagRE         = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
)

// maxName is the longest name, as in registries.
const maxName = 255

// ParseReference reads NAME[:TAG][@DIGEST] (distribution/reference grammar).
func ParseReference(s string) (Reference, error) {
	var r Reference
	rest := s
	if name, d, ok := strings.Cut(rest, "@"); ok {
		r.Digest = digest.Digest(d)
		if err := r.Digest.Validate(); err != nil {
			return r, fmt.Errorf("image name %q: what follows @ is not a digest: %w", s, err)
		}
		rest = name
	}
	r.Name = rest
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		r.Name, r.Tag = rest[:i], rest[i+1:]
		if !tagRE.MatchString(r.Tag) {
			return r, fmt.Errorf("image name %q: the tag %q may have letters, digits, '_', '.', '-', up to 128 of them", s, r.Tag)
		}
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = DefaultTag
	}
	if !nameRE.MatchString(r.Name) || len(r.Name) > maxName {
		return r, fmt.Errorf("image name %q: a name is lower-case letters and digits with '.', '_', '-' between them, "+
			"its parts separated by '/'", s)
	}
	return r, nil
}

// String is the short form, with the tag.
func (r Reference) String() string {
	s := r.Name
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// Full is the name with the registry that docker would ask.
func (r Reference) Full() string {
	name := r.Name
	first, _, more := strings.Cut(name, "/")
	switch {
	case !more:
		name = "docker.io/library/" + name
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		name = "docker.io/" + name
	}
	full := Reference{Name: name, Tag: r.Tag, Digest: r.Digest}
	return full.String()
}

// sameName tells whether a stored name means what ref means.
func sameName(stored string, ref Reference) bool {
	if stored == ref.String() {
		return true
	}
	r, err := ParseReference(stored)
	return err == nil && r.Full() == ref.Full()
}
