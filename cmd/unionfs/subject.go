package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/internal/inspect"
)

// subjectOptions are the flags of every command that looks into something.
type subjectOptions struct {
	Lower     []string
	UserXattr bool
	JSON      bool
}

// AddFlags declares the flags.
func (o *subjectOptions) AddFlags(f *pflag.FlagSet) {
	o.addLayerFlags(f)
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

// addLayerFlags declares those that say what SUBJECT is made of.
func (o *subjectOptions) addLayerFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.Lower, "lower", nil, "a layer `SOURCE` below SUBJECT, top first; may be repeated; of a mount they are known")
	f.BoolVar(&o.UserXattr, "userxattr", false, "the marks of directories are in user.overlay.*, where they do not tell")
}

// subjectHelp ends the help text of those commands.
const subjectHelp = `
SUBJECT is the mountpoint or the upper directory of a live mount, an image
(NAME[:TAG] or an ID in the store, oci:DIR[:TAG], oci-archive:FILE,
docker-archive:FILE), or a layer: a directory or a tar, with what lies below it in
--lower. Layers count from the top, 0 is the uppermost. Nothing is mounted and no
layer is unpacked.
`

// openSubject makes the model of what arg names. The caller closes it.
func openSubject(ctx context.Context, std stdio, opts *subjectOptions, arg string) (*inspect.Model, error) {
	if arg == "" {
		return nil, usagef("SUBJECT is empty")
	}
	oo := inspect.OpenOptions{UserXattr: opts.UserXattr || !privileged(), Progress: firstReading(std)}
	if isPathSubject(arg) {
		st, err := mountOf(ctx, arg)
		if err != nil {
			return nil, err
		}
		if st != nil {
			if len(opts.Lower) > 0 {
				return nil, usagef("the layers of %s are known: leave --lower out", arg)
			}
			return openMountSubject(ctx, oo, st)
		}
	}
	var sources []inspect.Source
	var history []inspect.Step
	for _, s := range append([]string{arg}, opts.Lower...) {
		more, steps, err := subjectSources(ctx, oo, s)
		if err != nil {
			for _, l := range sources {
				_ = l.Layer.Close()
			}
			return nil, err
		}
		sources, history = append(sources, more...), steps
	}
	if len(sources) == 0 {
		return nil, refusef("%s has no layers", arg)
	}
	m, err := inspect.OpenSources(ctx, sources)
	if err == nil && len(opts.Lower) == 0 {
		m.History = history
	}
	return m, err
}

// firstReading tells, on a terminal, about blobs that are read for the first
// time.
func firstReading(std stdio) func(layer string, done, total int64) {
	if !isTerminal(std.err) {
		return nil
	}
	return func(layer string, done, total int64) {
		if total == 0 {
			return
		}
		fmt.Fprintf(std.err, "\r\x1b[Kunionfs: reading %s for the first time, %d%%", layer, done*100/total)
		if done >= total {
			fmt.Fprint(std.err, "\r\x1b[K")
		}
	}
}

// isPathSubject tells whether a SUBJECT or SOURCE is meant as a path: it looks
// like one, or something is there.
func isPathSubject(s string) bool {
	if slices.ContainsFunc(imagePrefixes, func(p string) bool { return strings.HasPrefix(s, p) }) {
		return false
	}
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || s == "." || s == ".." {
		return true
	}
	_, err := os.Lstat(s)
	return err == nil
}

// subjectSources opens what one SOURCE stands for.
func subjectSources(ctx context.Context, oo inspect.OpenOptions, s string) ([]inspect.Source, []inspect.Step, error) {
	if isPathSubject(s) {
		l, err := inspect.OpenPath(ctx, s, oo)
		if err != nil {
			return nil, nil, &refusedError{err}
		}
		return []inspect.Source{{Layer: l, Info: inspect.Layer{Name: s}}}, nil, nil
	}
	store, err := openStore()
	if err != nil {
		return nil, nil, err
	}
	img, _, err := findImage(store, s)
	if err != nil {
		return nil, nil, err
	}
	return inspect.ImageSources(ctx, img, oo)
}

// mountOf finds the live mount that path is the mountpoint or the upper of; nil:
// there is none.
func mountOf(ctx context.Context, path string) (*control.Status, error) {
	m, err := findMount(path)
	if err == nil {
		client, err := dialMount(&m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; look into its upper directory with --lower instead", path, err)
		}
		defer func() { _ = client.Close() }()
		st, err := client.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return &st, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, refusef("%s does not exist", path)
	}
	if err != nil || !info.IsDir() {
		return nil, nil // OpenPath says what is wrong with it
	}
	abs, err := resolveDir("directory", path)
	if err != nil {
		return nil, err
	}
	client, st := mountOfUpper(ctx, abs)
	if client == nil {
		return nil, nil
	}
	_ = client.Close()
	return &st, nil
}

// openMountSubject makes the model of a live mount: its upper as it is now, and
// its layers.
func openMountSubject(ctx context.Context, oo inspect.OpenOptions, st *control.Status) (*inspect.Model, error) {
	var fs struct {
		Namespace string `json:"namespace"`
	}
	if err := json.Unmarshal(st.Filesystem, &fs); err == nil {
		oo.UserXattr = fs.Namespace == "user"
	}
	var paths []inspect.Layer
	if st.Upper != "" {
		// What programs wrote may still be in the kernel alone.
		if err := flushMount(ctx, st.Mountpoint); err != nil {
			return nil, err
		}
		paths = append(paths, inspect.Layer{Name: st.Upper, Upper: true})
	}
	layers := []control.Layer{{Dir: st.Upper}}
	if st.Upper == "" {
		layers = nil
	}
	known, history := imageOfMount(st)
	for _, l := range st.Layers {
		info, ok := known(&l)
		if !ok {
			info = inspect.Layer{Name: l.Name}
		}
		paths, layers = append(paths, info), append(layers, l)
	}
	var sources []inspect.Source
	for i, info := range paths {
		oo.Digest, oo.DiffID = digest.Digest(layers[i].Digest), digest.Digest(layers[i].DiffID)
		l, err := inspect.OpenPath(ctx, layers[i].Path(), oo)
		if err != nil {
			for _, s := range sources {
				_ = s.Layer.Close()
			}
			return nil, &refusedError{err}
		}
		sources = append(sources, inspect.Source{Layer: l, Info: info})
	}
	m, err := inspect.OpenSources(ctx, sources)
	if err != nil {
		return nil, err
	}
	for _, s := range history {
		// The image's layers are the lowest; those above it moved its numbers.
		if s.Layer >= 0 {
			s.Layer = slices.IndexFunc(m.Layers(), func(l inspect.Layer) bool {
				return l.CreatedBy == s.CreatedBy && l.Created == s.Created
			})
		}
		m.History = append(m.History, s)
	}
	return m, nil
}

// imageOfMount finds what the image of a mount says about its layers.
func imageOfMount(st *control.Status) (known func(l *control.Layer) (inspect.Layer, bool), history []inspect.Step) {
	byDiffID := map[digest.Digest]inspect.Layer{}
	store, err := image.OpenDefault()
	if err == nil && st.Image != "" {
		if img, _, err := findImage(store, st.Image); err == nil {
			var layers []inspect.Layer
			if layers, history, err = inspect.ImageLayers(img); err == nil {
				for _, l := range layers {
					byDiffID[l.DiffID] = l
				}
			}
		}
	}
	return func(l *control.Layer) (inspect.Layer, bool) {
		id := digest.Digest(l.DiffID)
		if id == "" && store != nil {
			u, _ := store.UnpackedAt(l.Dir)
			id = u.DiffID
		}
		info, ok := byDiffID[id]
		return info, ok
	}, history
}

// splitSubject takes SUBJECT[:PATH] apart at the last ":/" that is not the
// colon of a prefix such as oci:. Without a path it is "/".
func splitSubject(arg string) (subject, path string) {
	i := strings.LastIndex(arg, ":/")
	if i < 0 || slices.Contains(imagePrefixes, arg[:i+1]) {
		return arg, "/"
	}
	return arg[:i], arg[i+1:]
}

// subjectPath understands the arguments SUBJECT[:PATH] and SUBJECT PATH.
func subjectPath(args []string) (subject, path string, err error) {
	switch len(args) {
	case 0:
		return "", "", usagef("no SUBJECT given")
	case 1:
		subject, path = splitSubject(args[0])
		return subject, path, nil
	case 2:
		return args[0], args[1], nil
	}
	return "", "", usagef("it takes SUBJECT[:PATH] or SUBJECT PATH, not %d arguments", len(args))
}

// findNode finds a path in a model.
func findNode(m *inspect.Model, path string) (inspect.Node, error) {
	n, ok := m.Find(path)
	if !ok {
		return n, refusef("%s is in none of the %d layers", printable(path), m.Len())
	}
	return n, nil
}

// checkLayer checks the number of a layer.
func checkLayer(m *inspect.Model, layer int) error {
	if layer < 0 || layer >= m.Len() {
		return usagef("no layer %d: there are 0, the top, to %d", layer, m.Len()-1)
	}
	return nil
}

// versionOf finds the version of a path that one layer has, or, if layer is
// negative, that the whole stack shows.
func versionOf(m *inspect.Model, path string, layer int) (inspect.Version, error) {
	n, err := findNode(m, path)
	if err != nil {
		return inspect.Version{}, err
	}
	if layer >= 0 {
		if err := checkLayer(m, layer); err != nil {
			return inspect.Version{}, err
		}
		if v, ok := m.In(n, layer); ok && !v.Whiteout {
			return v, nil
		}
	} else if v, ok := m.At(n, 0); ok {
		return v, nil
	}
	var in []string
	for _, v := range m.Versions(n) {
		if !v.Whiteout && !v.Borrowed() {
			in = append(in, fmt.Sprint(v.Layer))
		}
	}
	if len(in) == 0 {
		return inspect.Version{}, refusef("%s is only deleted, no layer has it", printable(path))
	}
	if layer >= 0 {
		return inspect.Version{}, refusef("%s is not in layer %d but in %s", printable(path), layer, strings.Join(in, ", "))
	}
	return inspect.Version{}, refusef("%s is not shown any more; it is in layer %s (--layer N; unionfs why tells more)", printable(path), strings.Join(in, ", "))
}
