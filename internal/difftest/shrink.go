package difftest

import (
	"slices"
	"strings"
	"time"
)

// Shrink makes a failing case smaller while it fails in the same way, until no
// single operation or fixture line can be left out, or until the deadline. It
// returns the smallest case and its mismatch.
func (r *Runner) Shrink(c Case, m *Mismatch, deadline time.Time) (Case, *Mismatch) {
	try := func(candidate Case) bool {
		if time.Now().After(deadline) {
			return false
		}
		got, err := r.Run(candidate)
		if err != nil || !m.same(got) {
			return false
		}
		c, m = candidate, got
		return true
	}
	if m.Phase == "op" && m.Step+1 < len(c.Ops) {
		smaller := c
		smaller.Ops = c.Ops[:m.Step+1]
		try(smaller)
	}
	for before := -1; before != size(c) && time.Now().Before(deadline); {
		before = size(c)
		ddmin(c.Ops, func(ops []Op) bool {
			n := c
			n.Ops = ops
			return try(n)
		})
		ddmin(c.Setup, func(ops []Op) bool {
			n := c
			n.Setup = ops
			return try(n)
		})
		for i := range c.Layers {
			ddmin(strings.Split(c.Layers[i], "\n"), func(lines []string) bool {
				n := c
				n.Layers = slices.Clone(c.Layers)
				n.Layers[i] = strings.Join(lines, "\n")
				return try(n)
			})
		}
	}
	return c, m
}

func size(c Case) int {
	n := len(c.Ops) + len(c.Setup)
	for _, l := range c.Layers {
		n += len(l)
	}
	return n
}

// ddmin leaves out ever smaller parts of list as long as fails still holds, and
// returns what is left (Zeller's delta debugging, complements only).
func ddmin[T any](list []T, fails func([]T) bool) []T {
	for chunk := max(len(list)/2, 1); len(list) > 0; {
		cut := false
		for at := 0; at < len(list); {
			end := min(at+chunk, len(list))
			smaller := append(slices.Clone(list[:at]), list[end:]...)
			if fails(smaller) {
				list, cut = smaller, true
			} else {
				at = end
			}
		}
		if chunk == 1 && !cut {
			break
		}
		chunk = max(chunk/2, 1)
	}
	return list
}
