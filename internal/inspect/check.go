package inspect

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Facts are the numbers that rules speak of.
type Facts struct {
	Waste *Waste
	// Values are the numbers by name, see Metrics.
	Values map[string]float64
	// Examples are paths that a number comes from, worst first.
	Examples map[string][]string
}

// unit is how a number is written.
type unit uint8

const (
	inFiles unit = iota // a plain number
	inBytes
	inParts // of 1
	inPercent
)

// metrics are the names of all numbers.
var metrics = []struct {
	name, help string
	unit       unit
}{
	{"waste", "bytes that are shipped and not shown", inBytes},
	{"waste-percent", "the same in percent of what is shipped", inPercent},
	{"overwritten", "wasted bytes that a layer above overwrote", inBytes},
	{"deleted", "wasted bytes that a layer above deleted", inBytes},
	{"metadata", "wasted bytes of copies made for a mode, owner or time only", inBytes},
	{"efficiency", "live part of what is shipped, 0 to 1", inParts},
	{"size", "bytes of files that the image shows", inBytes},
	{"shipped", "bytes of files in all layers", inBytes},
	{"blobs", "bytes of the layers as they are stored, compressed", inBytes},
	{"layers", "number of layers", inFiles},
	{"files", "number of regular files shown", inFiles},
	{"suid", "programs with the set-user-ID bit", inFiles},
	{"sgid", "programs with the set-group-ID bit", inFiles},
	{"caps", "files with capabilities", inFiles},
	{"world-writable", "files and directories without sticky bit that everybody may write", inFiles},
	{"devices", "device nodes", inFiles},
	{"secrets", "files named like private keys and credentials, in any layer, deleted ones too", inFiles},
	{"useless-whiteouts", "whiteouts where nothing lies below", inFiles},
}

// MetricsHelp describes all numbers that rules may speak of, a line each.
func MetricsHelp() string {
	var b strings.Builder
	for _, m := range metrics {
		fmt.Fprintf(&b, "  %-18s %s\n", m.name, m.help)
	}
	return b.String()
}

// maxExamples is how many paths a number names.
const maxExamples = 10

// Facts finds the numbers of a model. Errors are those of Waste.
func (m *Model) Facts(ctx context.Context) (*Facts, error) {
	w, err := m.Waste(ctx)
	if err != nil {
		return nil, err
	}
	f := &Facts{Waste: w, Values: map[string]float64{}, Examples: map[string][]string{}}
	for _, k := range metrics {
		f.Values[k.name] = 0
	}
	v := f.Values
	v["waste"], v["overwritten"], v["deleted"] = float64(w.Reclaimable), float64(w.Overwritten.Bytes), float64(w.Deleted.Bytes)
	v["metadata"], v["efficiency"], v["waste-percent"] = float64(w.Metadata.Bytes), w.Efficiency, (1-w.Efficiency)*100
	v["size"], v["shipped"], v["layers"] = float64(w.Live), float64(w.Shipped), float64(m.Len())
	for i := range m.layers {
		v["blobs"] += float64(m.layers[i].BlobBytes)
	}
	for _, p := range w.Paths[:min(len(w.Paths), maxExamples)] {
		for _, k := range []string{"waste", "waste-percent", "efficiency"} {
			f.example(k, p.Path)
		}
	}
	for _, p := range w.Paths {
		kind := string(p.Copies[0].Kind)
		f.example(kind, p.Path)
	}
	for n := range Node(len(m.nodes)) {
		from, to := m.own(n)
		for i := from; i < to; i++ {
			f.version(m, m.version(n, i))
		}
	}
	return f, nil
}

func (f *Facts) example(metric, path string) {
	if len(f.Examples[metric]) < maxExamples {
		f.Examples[metric] = append(f.Examples[metric], path)
	}
}

func (f *Facts) count(m *Model, metric string, v *Version) {
	f.Values[metric]++
	if len(f.Examples[metric]) < maxExamples {
		f.example(metric, m.Path(v.Node))
	}
}

// version counts what one version adds to the numbers.
func (f *Facts) version(m *Model, v Version) {
	if v.Borrowed() && !v.Visible() {
		return
	}
	if v.Whiteout {
		if _, below := m.At(v.Node, v.Layer+1); !below && !v.Covers {
			f.count(m, "useless-whiteouts", &v)
		}
		return
	}
	if v.IsFile() && v.Size > 0 && v.Since == v.Layer && isSecret(m.Name(v.Node), m.Path(v.Node)) {
		f.count(m, "secrets", &v)
	}
	if !v.Visible() {
		return
	}
	const suid, sgid, sticky, others = 0o4000, 0o2000, 0o1000, 0o002
	switch {
	case v.IsFile():
		f.Values["files"]++
		if v.Mode&suid != 0 {
			f.count(m, "suid", &v)
		}
		if v.Mode&sgid != 0 {
			f.count(m, "sgid", &v)
		}
		if v.HasXattr && m.hasCapability(v) {
			f.count(m, "caps", &v)
		}
	case TypeName(v.Mode) == "char" || TypeName(v.Mode) == "block":
		f.count(m, "devices", &v)
	}
	if (v.IsFile() || v.IsDir() && v.Mode&sticky == 0) && v.Mode&others != 0 {
		f.count(m, "world-writable", &v)
	}
}

func (m *Model) hasCapability(v Version) bool {
	o, err := m.Object(v)
	return err == nil && o.Marks().HasCaps
}

// secretNames are names of files that hold secrets by convention; secretPaths
// are ends of paths.
var (
	secretNames = []string{
		"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".netrc", ".git-credentials", ".npmrc", ".pypirc", ".pgpass", ".htpasswd",
		".env", "*.p12", "*.pfx", "*.keystore", "*.jks", "*.kdbx", "*_rsa", "ssh_host_*_key", "credentials.json", "service-account*.json",
	}
	secretPaths = []string{"/.aws/credentials", "/.docker/config.json", "/.kube/config", "/.config/gcloud/credentials.db", "/.ssh/identity"}
)

func isSecret(name, full string) bool {
	for _, glob := range secretNames {
		if ok, err := path.Match(glob, name); err == nil && ok {
			return true
		}
	}
	return slices.ContainsFunc(secretPaths, func(end string) bool { return strings.HasSuffix(full, end) })
}

// Rule is a condition under which a check fails.
type Rule struct {
	Text   string
	metric string
	unit   unit
	op     string
	limit  float64
}

// ParseRule understands "METRIC OP VALUE", such as "waste>20MB", "efficiency <
// 0.95" or "suid>0". Errors wrap ErrFilter.
func ParseRule(text string) (Rule, error) {
	r := Rule{Text: strings.TrimSpace(text)}
	at := strings.IndexAny(r.Text, "<>=!")
	if at < 0 {
		return r, fmt.Errorf("rule %q is not METRIC, < > <= >= = or !=, VALUE: %w", r.Text, ErrFilter)
	}
	r.metric = strings.TrimSpace(r.Text[:at])
	op, value := splitOp(r.Text[at:])
	r.op, value = op, strings.TrimSpace(value)
	known := false
	for _, m := range metrics {
		if m.name == r.metric {
			r.unit, known = m.unit, true
		}
	}
	if !known || op == "" {
		return r, fmt.Errorf("rule %q: there is no number %q: %w", r.Text, r.metric, ErrFilter)
	}
	var err error
	if r.unit == inBytes {
		var n int64
		n, err = ParseSize(value)
		r.limit = float64(n)
	} else {
		number, percent := strings.CutSuffix(value, "%")
		r.limit, err = strconv.ParseFloat(number, 64)
		if percent && r.unit == inParts {
			r.limit /= 100
		}
		if percent && r.unit == inFiles {
			err = ErrFilter
		}
	}
	if err != nil {
		return r, fmt.Errorf("rule %q: %q is no value of %s: %w", r.Text, value, r.metric, ErrFilter)
	}
	return r, nil
}

// ParseRules reads rules, one a line; empty lines and lines that begin with "#"
// are skipped.
func ParseRules(text string) ([]Rule, error) {
	var rules []Rule
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := ParseRule(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// Verdict is what became of one rule.
type Verdict struct {
	Rule     string   `json:"rule"`
	Metric   string   `json:"metric"`
	Value    float64  `json:"value"`
	Failed   bool     `json:"failed"`
	Examples []string `json:"examples,omitempty"` // paths, of a rule that failed
	Reason   string   `json:"reason"`
}

// Judge applies a rule. size writes a number of bytes.
func (r Rule) Judge(f *Facts, size func(int64) string) Verdict {
	v := Verdict{Rule: r.Text, Metric: r.metric, Value: f.Values[r.metric]}
	v.Failed = compareOp(r.op, v.Value, r.limit)
	words := map[string]string{">": "more than", "<": "less than", ">=": "no less than", "<=": "no more than", "=": "exactly", "==": "exactly", "!=": "not"}
	if v.Failed {
		v.Examples = f.Examples[r.metric]
		v.Reason = fmt.Sprintf("%s is %s, %s %s", r.metric, r.write(v.Value, size), words[r.op], r.write(r.limit, size))
	} else {
		v.Reason = fmt.Sprintf("%s is %s", r.metric, r.write(v.Value, size))
	}
	return v
}

func (r Rule) write(n float64, size func(int64) string) string {
	switch r.unit {
	case inBytes:
		return size(int64(n))
	case inParts:
		return fmt.Sprintf("%.4f", n)
	case inPercent:
		return fmt.Sprintf("%.2f%%", n)
	default:
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
}
