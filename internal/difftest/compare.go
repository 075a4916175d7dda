package difftest

import (
	"os"
	"regexp"
	"strings"
)

// comparer compares what was observed word by word.
type comparer struct{ laxTimes, laxLinks bool }

// same compares an observation of the oracle with one of the subject. Link
// counts of directories (dn=) may differ where one side says 1, "not counted":
// the kernel does so for merged directories, and programs that use the count
// know it.
func (c comparer) same(oracle, subject string) bool {
	if oracle == subject {
		return true
	}
	wa, wb := strings.Split(oracle, " "), strings.Split(subject, " ")
	// In a user namespace the kernel does not see that two names are one file
	// that was copied up.
	if c.laxLinks && (!regularLine.MatchString(oracle) || os.Getenv(inUserNamespace) != "") {
		wa, wb = dropFirst(wa), dropFirst(wb)
	}
	if len(wa) != len(wb) {
		return false
	}
	for i := range wa {
		if wa[i] != wb[i] && !c.sameWord(wa[i], wb[i]) {
			return false
		}
	}
	return true
}

// regularLine is a line of Dump about a regular file.
var regularLine = regexp.MustCompile(`" f [0-7]{4} `)

// dropFirst leaves out from the name of the first link on: it may have spaces.
func dropFirst(words []string) []string {
	for i, w := range words {
		if strings.HasPrefix(w, "first=") {
			return words[:i]
		}
	}
	return words
}

func (c comparer) sameWord(a, b string) bool {
	if c.laxTimes && a == "m=now" && strings.HasPrefix(b, "m=") {
		return true
	}
	uncounted := a == "dn=1" || b == "dn=1"
	return uncounted && strings.HasPrefix(a, "dn=") && strings.HasPrefix(b, "dn=")
}

// treeMismatch compares two dumps.
func (c comparer) treeMismatch(phase string, a, b []string) *Mismatch {
	onlyA, onlyB := c.onlyIn(a, b)
	if onlyA == "" && onlyB == "" {
		return nil
	}
	return &Mismatch{Phase: phase, Oracle: onlyA, Subject: onlyB}
}

// onlyIn gives the lines that only one of two lists has, one string per list.
func (c comparer) onlyIn(a, b []string) (onlyA, onlyB string) {
	var outA, outB []string
	left := map[string][]string{} // first word -> lines of b with it
	for _, l := range b {
		left[key(l)] = append(left[key(l)], l)
	}
	for _, l := range a {
		k := key(l)
		found := false
		for i, m := range left[k] {
			if c.same(l, m) {
				left[k] = append(append([]string{}, left[k][:i]...), left[k][i+1:]...)
				found = true
				break
			}
		}
		if !found {
			outA = append(outA, l)
		}
	}
	for _, l := range b {
		k := key(l)
		for i, m := range left[k] {
			if m == l {
				outB = append(outB, l)
				left[k] = append(append([]string{}, left[k][:i]...), left[k][i+1:]...)
				break
			}
		}
	}
	return strings.Join(outA, "\n"), strings.Join(outB, "\n")
}

func key(line string) string {
	k, _, _ := strings.Cut(line, " ")
	return k
}
