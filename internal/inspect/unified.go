package inspect

import (
	"bytes"
	"fmt"
	"io"
)

// contextLines is how many lines around a change a patch shows.
const contextLines = 3

// maxEdits bounds the search for the shortest way from one text to another;
// texts that differ more are replaced as a whole.
const maxEdits = 1500

// edit is a run of lines: from a only, from b only, or of both.
type edit struct {
	op   byte // ' ', '-' or '+'
	line []byte
}

// writeUnified writes the hunks of a unified diff from a to b.
func writeUnified(w io.Writer, a, b []byte) error {
	edits := lineEdits(splitLines(a), splitLines(b))
	lineA, lineB := 1, 1
	for i := 0; i < len(edits); {
		if edits[i].op == ' ' {
			i, lineA, lineB = i+1, lineA+1, lineB+1
			continue
		}
		start := max(0, i-contextLines)
		end := hunkEnd(edits, i)
		if err := writeHunk(w, edits[start:end], lineA-(i-start), lineB-(i-start)); err != nil {
			return err
		}
		for ; i < end; i++ {
			if edits[i].op != '+' {
				lineA++
			}
			if edits[i].op != '-' {
				lineB++
			}
		}
	}
	return nil
}

// hunkEnd is the end of the hunk that begins with the change at i: three lines
// after the last change that is no more than six lines from the one before.
func hunkEnd(edits []edit, i int) int {
	last := i
	for j := i; j < len(edits) && j-last <= 2*contextLines; j++ {
		if edits[j].op != ' ' {
			last = j
		}
	}
	return min(len(edits), last+1+contextLines)
}

func writeHunk(w io.Writer, edits []edit, lineA, lineB int) error {
	countA, countB := 0, 0
	for _, e := range edits {
		if e.op != '+' {
			countA++
		}
		if e.op != '-' {
			countB++
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "@@ -%s +%s @@\n", hunkRange(lineA, countA), hunkRange(lineB, countB))
	for _, e := range edits {
		out.WriteByte(e.op)
		out.Write(e.line)
		if !bytes.HasSuffix(e.line, []byte("\n")) {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}

// hunkRange is a position in a hunk's header; an empty range stands before its
// line.
func hunkRange(line, count int) string {
	if count == 0 {
		line--
	}
	if count == 1 {
		return fmt.Sprint(line)
	}
	return fmt.Sprintf("%d,%d", line, count)
}

func splitLines(b []byte) [][]byte {
	lines := bytes.SplitAfter(b, []byte("\n"))
	if n := len(lines); n > 0 && len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	}
	return lines
}

// lineEdits finds a short way from a to b (Myers, An O(ND) Difference
// Algorithm, 1986).
func lineEdits(a, b [][]byte) []edit {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && bytes.Equal(a[0], b[0]) {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && bytes.Equal(a[len(a)-1], b[len(b)-1]) {
		tail = append(tail, edit{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	out := append(head, myers(a, b)...)
	for i := len(tail) - 1; i >= 0; i-- {
		out = append(out, tail[i])
	}
	return out
}

func myers(a, b [][]byte) []edit {
	limit := min(len(a)+len(b), maxEdits)
	reach := make([]int, 2*limit+3) // furthest x on diagonal k, at k+limit+1
	var trace [][]int
	for d := 0; d <= limit; d++ {
		trace = append(trace, append([]int(nil), reach[limit+1-d-1:limit+1+d+2]...))
		for k := -d; k <= d; k += 2 {
			at := k + limit + 1
			x := reach[at-1] + 1
			if k == -d || k != d && reach[at-1] < reach[at+1] {
				x = reach[at+1]
			}
			for x < len(a) && x-k < len(b) && bytes.Equal(a[x], b[x-k]) {
				x++
			}
			reach[at] = x
			if x >= len(a) && x-k >= len(b) {
				return backtrack(a, b, trace)
			}
		}
	}
	out := make([]edit, 0, len(a)+len(b))
	for _, l := range a {
		out = append(out, edit{'-', l})
	}
	for _, l := range b {
		out = append(out, edit{'+', l})
	}
	return out
}

// backtrack follows the furthest points of each step from the end to the start.
// trace[d] holds the diagonals -d-1 to d+1 as they were before step d.
func backtrack(a, b [][]byte, trace [][]int) []edit {
	var rev []edit
	x, y := len(a), len(b)
	for d := len(trace) - 1; d >= 0; d-- {
		reach := func(k int) int { return trace[d][k+d+1] }
		k := x - y
		prev := k - 1
		if k == -d || k != d && reach(k-1) < reach(k+1) {
			prev = k + 1
		}
		px := reach(prev)
		if d == 0 {
			px, prev = 0, 0
		}
		py := px - prev
		for x > px && y > py {
			x, y = x-1, y-1
			rev = append(rev, edit{' ', a[x]})
		}
		switch {
		case d == 0:
		case x == px:
			y--
			rev = append(rev, edit{'+', b[y]})
		default:
			x--
			rev = append(rev, edit{'-', a[x]})
		}
	}
	for i, j := 0, len(rev)-1; i < j; i, j = i+1, j-1 {
		rev[i], rev[j] = rev[j], rev[i]
	}
	return rev
}
