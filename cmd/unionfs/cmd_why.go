package main

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

const whyHelp = `Prints the life of a path, the lowest layer first: which layer added it, what each
change was, what deleted or hid it, where it came back; with the command that made
each layer, and which version is shown and why.
`

func newWhyCommand() *command {
	var opts subjectOptions
	c := &command{
		name:  "why",
		usage: "[--json] SUBJECT PATH | SUBJECT:PATH",
		short: "print which layers a path comes from and what they did to it",
		long:  whyHelp + subjectHelp,
		flags: newFlagSet("why"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		subject, path, err := subjectPath(args)
		if err != nil {
			return err
		}
		m, err := openSubject(ctx, std, &opts, subject)
		if err != nil {
			return err
		}
		defer m.Close()
		return runWhy(ctx, std, m, path, opts.JSON)
	}
	return c
}

// eventJSON is one event as why --json prints it.
type eventJSON struct {
	Layer     int                 `json:"layer"`
	Event     inspect.EventKind   `json:"event"`
	CreatedBy string              `json:"createdBy,omitempty"`
	What      inspect.Differences `json:"what"`
	From      string              `json:"from,omitempty"`
	Useless   bool                `json:"useless,omitempty"`
	Version   *versionJSON        `json:"version,omitempty"` // after the event
	Old       *versionJSON        `json:"old,omitempty"`     // before
}

type whyJSON struct {
	Path    string          `json:"path"`
	Visible bool            `json:"visible"`
	Layer   *int            `json:"layer,omitempty"` // of the version that is shown
	Events  []eventJSON     `json:"events"`          // lowest layer first
	Layers  []inspect.Layer `json:"layers"`          // all, top first
}

func runWhy(ctx context.Context, std stdio, m *inspect.Model, path string, asJSON bool) error {
	n, err := findNode(m, path)
	if err != nil {
		return err
	}
	events, err := m.Life(ctx, n)
	if err != nil {
		return err
	}
	shown, visible := m.At(n, 0)
	if asJSON {
		doc := whyJSON{Path: m.Path(n), Visible: visible, Events: []eventJSON{}, Layers: m.Layers()}
		if visible {
			doc.Layer = &shown.Layer
		}
		for i := range events {
			doc.Events = append(doc.Events, newEventJSON(m, &events[i]))
		}
		return printJSON(std.out, doc)
	}
	p := newPainter(std.out)
	fmt.Fprintln(std.out, p.paint(bold, printable(m.Path(n))))
	for i := range events {
		e := &events[i]
		fmt.Fprintf(std.out, "  layer %-3d %s  %s\n", e.Layer, p.paint(eventColour(e.Kind), fmt.Sprintf("%-9s", e.Kind)), eventText(m, e))
		fmt.Fprintf(std.out, "            %s\n", p.paint(dim, commandText(m.Layer(e.Layer), 100)))
	}
	_, err = fmt.Fprintln(std.out, verdictText(m, &shown, visible, events))
	return err
}

func newEventJSON(m *inspect.Model, e *inspect.Event) eventJSON {
	j := eventJSON{
		Layer: e.Layer, Event: e.Kind, CreatedBy: m.Layer(e.Layer).CreatedBy, What: e.What, From: e.From, Useless: e.Useless,
	}
	if e.Old != nil {
		v := newVersionJSON(m, e.Old)
		j.Old = &v
	}
	if e.Kind != inspect.EventHidden && e.Kind != inspect.EventDeleted {
		v := newVersionJSON(m, &e.Version)
		j.Version = &v
	}
	return j
}

func eventColour(kind inspect.EventKind) string {
	switch kind {
	case inspect.EventDeleted, inspect.EventHidden:
		return red
	case inspect.EventModified:
		return yellow
	case inspect.EventMoved, inspect.EventRenamed:
		return cyan
	default:
		return green
	}
}

// eventText says what an event was about.
func eventText(m *inspect.Model, e *inspect.Event) string {
	var s string
	switch e.Kind {
	case inspect.EventDeleted:
		s = "by a whiteout"
		if e.Useless {
			s += ", though nothing lies below"
		}
	case inspect.EventHidden:
		s = hiddenText(m, e.Why, e.By)
	case inspect.EventModified:
		s = modifiedText(e)
	case inspect.EventMoved:
		s = "here with a directory that was renamed; " + objectText(&e.Version)
	default:
		s = objectText(&e.Version)
		if e.Version.Opaque {
			s += ", opaque"
		}
	}
	if e.From != "" {
		s += ", from " + printable(e.From)
	}
	return s
}

func hiddenText(m *inspect.Model, why inspect.Why, by inspect.Node) string {
	dir := printable(m.Path(by))
	switch why {
	case inspect.WhyWhiteout:
		return "by a whiteout of " + dir
	case inspect.WhyOpaque:
		return "by " + dir + ", which is opaque"
	case inspect.WhyShadowed:
		return "by " + dir + ", which is another thing there"
	case inspect.WhyMoved:
		return "by " + dir + ", which came from elsewhere"
	default:
		return "by " + dir
	}
}

func objectText(v *inspect.Version) string {
	s := fmt.Sprintf("%s %d:%d", inspect.ModeString(v.Mode), v.UID, v.GID)
	switch {
	case v.IsFile():
		s += " " + humanSize(v.Size)
	case isDevice(v):
		s += " " + deviceText(v)
	}
	if v.Metacopy {
		s += ", its data are in a layer below"
	}
	return s
}

// modifiedText lists what changed, with the values before and after.
func modifiedText(e *inspect.Event) string {
	old, now := e.Old, &e.Version
	var parts []string
	for _, what := range e.What.Names() {
		switch what {
		case "type":
			parts = append(parts, fmt.Sprintf("%s became %s", inspect.TypeName(old.Mode), inspect.TypeName(now.Mode)))
		case "content":
			parts = append(parts, fmt.Sprintf("content %s -> %s", humanSize(old.Size), humanSize(now.Size)))
		case "mode":
			parts = append(parts, fmt.Sprintf("mode %s -> %s", inspect.ModeString(old.Mode), inspect.ModeString(now.Mode)))
		case "owner":
			parts = append(parts, fmt.Sprintf("owner %d:%d -> %d:%d", old.UID, old.GID, now.UID, now.GID))
		case "mtime":
			parts = append(parts, fmt.Sprintf("time %s -> %s", mtimeOf(old).Format("2006-01-02 15:04:05"), mtimeOf(now).Format("2006-01-02 15:04:05")))
		default:
			parts = append(parts, what)
		}
	}
	if len(parts) == 0 {
		if now.Type() == unix.S_IFDIR {
			return "nothing but what is in it"
		}
		return "copied without a change"
	}
	return strings.Join(parts, ", ")
}

// verdictText says which version is shown and why.
func verdictText(m *inspect.Model, shown *inspect.Version, visible bool, events []inspect.Event) string {
	if visible {
		why := "no layer above has it"
		if shown.Layer == 0 {
			why = "it is the top layer"
		}
		if shown.IsDir() {
			why += mergedText(m, shown)
		}
		return fmt.Sprintf("shown: the version of layer %d, since %s", shown.Layer, why)
	}
	last := &events[len(events)-1]
	cost := int64(0)
	for _, v := range m.Versions(last.Version.Node) {
		if !v.Borrowed() {
			cost += v.Bytes()
		}
	}
	s := fmt.Sprintf("not shown: layer %d took it away", last.Layer)
	if cost > 0 {
		s += fmt.Sprintf("; %s of it are still shipped", humanSize(cost))
	}
	return s
}

// mergedText says which directories of lower layers a directory merges with.
func mergedText(m *inspect.Model, shown *inspect.Version) string {
	if shown.Opaque {
		return "; it is opaque, nothing below shows through"
	}
	var with []string
	for _, v := range m.Versions(shown.Node) {
		if v.IsDir() && v.Layer != shown.Layer && !m.Hidden(&v) {
			with = append(with, fmt.Sprint(v.Layer))
		}
	}
	if len(with) == 0 {
		return ""
	}
	return "; what it holds merges with that of layer " + strings.Join(with, ", ")
}
