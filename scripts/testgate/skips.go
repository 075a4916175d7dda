package main

import (
	"fmt"
	"os"
	"strings"
)

// A skipList is the tests that may be skipped, in the order of the file.
type skipList []skipRule

// A skipRule lets one test, or all whose names begin with a prefix, be skipped.
type skipRule struct {
	pkg, test, reason string
}

// readSkips reads the list; an empty name is an empty list.
func readSkips(name string) (skipList, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the list of allowed skips: %w", err)
	}
	return parseSkips(name, string(text))
}

// parseSkips parses the lines "PACKAGE TEST REASON..."; # begins a comment.
func parseSkips(name, text string) (skipList, error) {
	var list skipList
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("%s:%d: want PACKAGE TEST REASON, have %q", name, i+1, line)
		}
		list = append(list, skipRule{fields[0], fields[1], strings.Join(fields[2:], " ")})
	}
	return list, nil
}

// reason gives why a test may be skipped.
func (l skipList) reason(k key) (string, bool) {
	for _, rule := range l {
		prefix, open := strings.CutSuffix(rule.test, "*")
		if (rule.pkg == k.pkg || rule.pkg == "*") && (rule.test == k.test || open && strings.HasPrefix(k.test, prefix)) {
			return rule.reason, true
		}
	}
	return "", false
}
