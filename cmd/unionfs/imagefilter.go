package main

import (
	"encoding/json"
	"io"
	"path"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/unionfs-go/unionfs/internal/image"
)

// imageFilters are the filters of image ls. An image is listed when it passes
// all keys, and of each key one value.
type imageFilters struct {
	dangling   *bool
	labels     []string // all must match
	references []string
	before     *time.Time
	since      *time.Time
	beforeName string
	sinceName  string
}

func parseFilters(list []string) (*imageFilters, error) {
	f := &imageFilters{}
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok || value == "" {
			return nil, usagef("--filter %q is not KEY=VALUE", s)
		}
		switch key {
		case "dangling":
			b := value == "true" || value == "1"
			if !b && value != "false" && value != "0" {
				return nil, usagef("--filter %q: dangling is true or false", s)
			}
			f.dangling = &b
		case "label":
			f.labels = append(f.labels, value)
		case "reference":
			if _, err := path.Match(value, ""); err != nil {
				return nil, usagef("--filter %q: the pattern is malformed", s)
			}
			f.references = append(f.references, value)
		case "before":
			f.beforeName = value
		case "since":
			f.sinceName = value
		default:
			return nil, usagef("--filter %q: unknown key; use dangling, label, reference, before or since", s)
		}
	}
	return f, nil
}

// resolve finds the images that before and since name.
func (f *imageFilters) resolve(store *image.Store) error {
	for _, one := range []struct {
		name string
		at   **time.Time
	}{{f.beforeName, &f.before}, {f.sinceName, &f.since}} {
		if one.name == "" {
			continue
		}
		img, _, err := findImage(store, one.name)
		if err != nil {
			return err
		}
		*one.at = &time.Time{}
		if img.Config.Created != nil {
			*one.at = img.Config.Created
		}
	}
	return nil
}

func (f *imageFilters) match(img *image.Image, row imageRow) bool {
	created := time.Time{}
	if row.Created != nil {
		created = *row.Created
	}
	if f.dangling != nil && *f.dangling != (img.Name == "") ||
		f.before != nil && !created.Before(*f.before) || f.since != nil && !created.After(*f.since) {
		return false
	}
	for _, l := range f.labels {
		key, want, valued := strings.Cut(l, "=")
		have, ok := img.Config.Config.Labels[key]
		if !ok || valued && have != want {
			return false
		}
	}
	for _, r := range f.references {
		if matchesReference(row, r) {
			return true
		}
	}
	return len(f.references) == 0
}

// matchesReference tells whether an image's name, with or without its tag,
// matches a shell pattern.
func matchesReference(row imageRow, pattern string) bool {
	for _, name := range []string{row.Repository, row.Repository + ":" + row.Tag} {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			return true
		}
	}
	return false
}

// templateRow is an image as --format TEMPLATE and --format json see it, with
// docker's names.
type templateRow struct {
	CreatedAt    string
	CreatedSince string
	Digest       string
	ID           string
	Repository   string
	Size         string
	Tag          string
}

// templateHead is the head of "table TEMPLATE".
var templateHead = templateRow{
	CreatedAt: "CREATED AT", CreatedSince: "CREATED", Digest: "DIGEST", ID: "IMAGE ID", Repository: "REPOSITORY", Size: "SIZE", Tag: "TAG",
}

func newTemplateRow(r imageRow, noTrunc bool) templateRow {
	t := templateRow{
		CreatedSince: ago(r.Created, time.Now()), Digest: r.Digest.String(), ID: shortID(r.ID, noTrunc),
		Repository: r.Repository, Size: humanSize(r.Size), Tag: r.Tag, CreatedAt: "N/A",
	}
	if r.Created != nil {
		t.CreatedAt = r.Created.Format("2006-01-02 15:04:05 -0700 MST")
	}
	return t
}

// formatImages prints rows by a template, or each as a line of JSON.
func formatImages(w io.Writer, opts *ImageLsOptions, rows []imageRow) error {
	if opts.Format == "json" {
		enc := json.NewEncoder(w)
		for _, r := range rows {
			if err := enc.Encode(newTemplateRow(r, opts.NoTrunc)); err != nil {
				return err
			}
		}
		return nil
	}
	text, table := strings.CutPrefix(opts.Format, "table ")
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	tmpl, err := template.New("format").Parse(text + "\n")
	if err != nil {
		return usagef("--format: %v", err)
	}
	out := w
	if table {
		tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		defer tw.Flush() //nolint:errcheck // a reader that went away needs no list
		out = tw
		if err := tmpl.Execute(out, templateHead); err != nil {
			return usagef("--format: %v", err)
		}
	}
	for _, r := range rows {
		if err := tmpl.Execute(out, newTemplateRow(r, opts.NoTrunc)); err != nil {
			return usagef("--format: %v", err)
		}
	}
	return nil
}
