package difftest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// A script is a case as text: one operation a line,
//
//	CALL [PATH [TO]] [KEY=VALUE...] [=> WANT]
//
// where KEY is a field of Op (mode in octal) and p the worker. WANT is an errno
// name, "ok", what the call observed, or "~" and a part of what it observed.

type scriptStep struct {
	op   Op
	want string
	line string
}

func parseScript(text string) ([]scriptStep, error) {
	var steps []scriptStep
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		body, want, _ := strings.Cut(line, "=>")
		op, err := parseOp(strings.TrimSpace(body))
		if err != nil {
			return nil, fmt.Errorf("script line %q: %w", line, err)
		}
		steps = append(steps, scriptStep{op, strings.TrimSpace(want), line})
	}
	return steps, nil
}

func parseOp(body string) (Op, error) {
	words, err := splitWords(body)
	if err != nil {
		return Op{}, err
	}
	op := Op{Call: words[0]}
	if calls[op.Call] == nil {
		registerAll()
	}
	if calls[op.Call] == nil {
		return op, fmt.Errorf("unknown call %q", op.Call)
	}
	for _, w := range words[1:] {
		k, v, ok := strings.Cut(w, "=")
		switch {
		case !ok && op.Path == "":
			op.Path = w
		case !ok:
			op.To = w
		default:
			if err := setField(&op, k, v); err != nil {
				return op, err
			}
		}
	}
	return op, nil
}

func setField(op *Op, k, v string) error {
	text := map[string]*string{"flags": &op.Flags, "name": &op.Name, "data": &op.Data, "hex": &op.Hex}
	if p := text[k]; p != nil {
		*p = v
		return nil
	}
	base := 10
	if k == "mode" {
		base = 8
	}
	n, err := strconv.ParseInt(v, base, 64)
	if err != nil {
		return err
	}
	switch k {
	case "p":
		op.Proc = int(n)
	case "fd":
		op.FD = int(n)
	case "fd2":
		op.FD2 = int(n)
	case "mode":
		op.Mode = uint32(n)
	case "uid":
		op.UID = int(n)
	case "gid":
		op.GID = int(n)
	case "off":
		op.Off = n
	case "off2":
		op.Off2 = n
	case "len":
		op.Len = n
	default:
		return fmt.Errorf("unknown key %q", k)
	}
	return nil
}

func wanted(want string, res Result) bool {
	switch {
	case want == "":
		return true
	case want == "ok":
		return res.Err == ""
	case strings.HasPrefix(want, "~"):
		return res.Err == "" && strings.Contains(res.Val, strings.TrimSpace(want[1:]))
	case strings.HasPrefix(want, "E") && !strings.Contains(want, " "):
		return res.Err == want
	}
	return res.Err == "" && comparer{}.same(res.Val, want)
}

// scriptSource checks what the oracle answers against what the script wants.
type scriptSource struct {
	t     *testing.T
	steps []scriptStep
	at    int
}

func (s *scriptSource) Next() (Op, bool) {
	if s.at >= len(s.steps) {
		return Op{}, false
	}
	s.at++
	return s.steps[s.at-1].op, true
}

func (s *scriptSource) Saw(_ Op, res Result) {
	step := s.steps[s.at-1]
	if !wanted(step.want, res) {
		s.t.Errorf("%s: got %s", step.line, res)
	}
}

// script runs a script on unionfs and on the kernel, which must agree with it
// and with each other, then compares trees and marks as Run does. Layers are
// fixture texts, top first.
func script(t *testing.T, layers []string, text string) {
	t.Helper()
	needRoot(t)
	v := Variants[0]
	runScript(t, Kernel{v.Kernel}, unionfs(t, v.Subject), layers, text)
}

// scriptOurs runs a script where the kernel does otherwise.
func scriptOurs(t *testing.T, options string, layers []string, text string) {
	t.Helper()
	needRoot(t)
	runScript(t, unionfs(t, options), unionfs(t, options), layers, text)
}

func runScript(t *testing.T, oracle, subject Target, layers []string, text string) {
	t.Helper()
	steps, err := parseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, oracle, subject, Differences)
	m, _, err := r.RunSource(Case{Variant: Variants[0].Name, Layers: layers}, &scriptSource{t: t, steps: steps}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m != nil {
		t.Error(m)
	}
}
