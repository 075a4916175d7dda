package inspect

import "context"

// EventKind is what a layer did to a path.
type EventKind string

// The kinds of event.
const (
	EventAdded     EventKind = "added"
	EventModified  EventKind = "modified"
	EventRecreated EventKind = "recreated" // it was gone in between, or by this layer itself
	EventDeleted   EventKind = "deleted"   // by a whiteout of the path itself
	EventHidden    EventKind = "hidden"    // by something that happened to a directory above
	EventRenamed   EventKind = "renamed"   // the layer renamed it, see From
	EventMoved     EventKind = "moved"     // it came here with a directory that was renamed
)

// Event is one step in the life of a path.
type Event struct {
	Kind  EventKind
	Layer int
	// Version is what the layer has there; of hidden it is what was hidden.
	Version Version
	// Old is what there was before, of modified, deleted and hidden.
	Old  *Version
	What Differences // of modified
	// Why and By tell what hid it, of hidden; By is the directory above.
	Why Why
	By  Node
	// From is the path it had, where a layer renamed it, else "".
	From string
	// Useless: a whiteout where nothing lies below.
	Useless bool
}

// Life lists what happened to a path, the lowest layer first. Errors are those
// of reading versions to compare them, and of ctx.
func (m *Model) Life(ctx context.Context, n Node) ([]Event, error) {
	var events []Event
	from, to := m.own(n)
	existed := false
	for layer := m.Len() - 1; layer >= 0; layer-- {
		old := int32(-1)
		if layer+1 < m.Len() {
			old = m.at(n, layer+1)
		}
		e := Event{Layer: layer, By: None}
		if old >= 0 {
			v := m.version(n, old)
			e.Old = &v
		}
		mine := int32(-1)
		for i := from; i < to; i++ {
			if v := &m.versions[i]; int(v.since) == layer && (mine < 0 || v.layer == v.since) {
				mine = i
			}
		}
		if mine >= 0 {
			e.Version = m.version(n, mine)
		}
		if !m.event(&e, mine >= 0, existed) {
			continue
		}
		if e.Kind == EventModified {
			var err error
			if e.What, err = m.Differences(ctx, *e.Old, m, e.Version); err != nil {
				return nil, err
			}
		}
		existed = true
		events = append(events, e)
	}
	return events, nil
}

// event finds the kind of an event, false: nothing happened in its layer.
func (m *Model) event(e *Event, mine, existed bool) bool {
	for _, mv := range m.moves[e.Version.Node] {
		if mine && mv.Layer == e.Layer {
			e.From = mv.From
		}
	}
	gone := e.Old != nil && e.Old.Until == e.Layer
	switch {
	case mine && e.Version.Whiteout:
		e.Kind, e.Useless = EventDeleted, e.Old == nil && !e.Version.Covers
	case mine && (e.Version.Borrowed() || e.Version.Covers && e.Old == nil && e.Version.IsDir()):
		e.Kind = EventMoved
	case mine && e.Old == nil && existed:
		e.Kind = EventRecreated
	case mine && e.Old == nil:
		e.Kind = EventAdded
	case mine && e.Version.IsDir() && e.Version.Opaque && e.Old.IsDir():
		e.Kind = EventRecreated
	case mine:
		e.Kind = EventModified
	case gone && e.Old.Why == WhyWhiteout && e.Old.By == e.Old.Node:
		e.Kind = EventDeleted
	case gone:
		e.Kind, e.Version, e.Why, e.By = EventHidden, *e.Old, e.Old.Why, e.Old.By
	default:
		return false
	}
	if e.From != "" && (e.Kind == EventAdded || e.Kind == EventRecreated) {
		e.Kind = EventRenamed
	}
	return true
}
