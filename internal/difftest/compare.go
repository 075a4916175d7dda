package difftest

import "strings"

// sameText compares what was observed word by word. Link counts of directories
// (dn=) may differ where one side says 1, "not counted": the kernel does so for
// merged directories, and programs that use the count know it.
func sameText(a, b string) bool {
	if a == b {
		return true
	}
	wa, wb := strings.Split(a, " "), strings.Split(b, " ")
	if len(wa) != len(wb) {
		return false
	}
	for i := range wa {
		if wa[i] == wb[i] {
			continue
		}
		uncounted := wa[i] == "dn=1" || wb[i] == "dn=1"
		if !uncounted || !strings.HasPrefix(wa[i], "dn=") || !strings.HasPrefix(wb[i], "dn=") {
			return false
		}
	}
	return true
}

// treeMismatch compares two dumps.
func treeMismatch(phase string, a, b []string) *Mismatch {
	onlyA, onlyB := onlyIn(a, b)
	if onlyA == "" && onlyB == "" {
		return nil
	}
	return &Mismatch{Phase: phase, Oracle: onlyA, Subject: onlyB}
}

// onlyIn gives the lines that only one of two lists has, one string per list.
func onlyIn(a, b []string) (onlyA, onlyB string) {
	var outA, outB []string
	left := map[string][]string{} // first word -> lines of b with it
	for _, l := range b {
		left[key(l)] = append(left[key(l)], l)
	}
	for _, l := range a {
		k := key(l)
		found := false
		for i, m := range left[k] {
			if sameText(l, m) {
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
