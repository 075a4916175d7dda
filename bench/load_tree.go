package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
)

// workloads is the list of all workloads of a scale, in the order of the report.
func workloads(d dataFolder, c Scale) []*Workload {
	var list []*Workload
	list = append(list, readingWorkloads(d, c)...)
	list = append(list, loopWorkloads(d, c)...)
	list = append(list, changingWorkloads(d, c)...)
	list = append(list, dataWorkloads(d, c)...)
	list = append(list, toolWorkloads(d, c)...)
	list = append(list, scaleWorkloads(d, c)...)
	return list
}

// layer makes a stack of one data set.
func layer(dir string, err error) func() ([]string, error) {
	return func() ([]string, error) { return []string{dir}, err }
}

// onceLayer is layer for a set that is generated only when it is needed.
func onceLayer(generate func() (string, error)) func() ([]string, error) {
	return func() ([]string, error) {
		dir, err := generate()
		return []string{dir}, err
	}
}

const (
	findScript = `find "$1" -printf '%s %m %T@\n' >/dev/null`
	tarScript  = `tar -cf - "$1" | cat >/dev/null` // tar does not read for /dev/null
	grepScript = `grep -r unlikely_to_be_found "$1"; test $? = 1`
)

// readingWorkloads walk and read a whole tree with the usual tools.
func readingWorkloads(d dataFolder, c Scale) []*Workload {
	source := layer(d.set("go"))
	debian := layer(d.set("debian"))
	npm := layer(d.set("npm"))
	group := "whole trees"
	return []*Workload{
		{Name: "find-cold", Group: group, Title: "find+stat, cold", Cold: true, Layers: source, Part: c.ReadTree, Measure: coldThen(script(findScript, c.ReadTree))},
		{Name: "find-warm", Group: group, Title: "find+stat, warm", Layers: source, Part: c.ReadTree, Measure: warmThen(script(findScript, c.ReadTree))},
		{Name: "tar-cold", Group: group, Title: "tar of the tree, cold", Cold: true, Layers: source, Part: c.ReadTree, Measure: coldThen(script(tarScript, c.ReadTree))},
		{Name: "tar-warm", Group: group, Title: "tar of the tree, warm", Layers: source, Part: c.ReadTree, Measure: warmThen(script(tarScript, c.ReadTree))},
		{Name: "grep-warm", Group: group, Title: "grep -r, warm", Layers: source, Part: c.ReadTree, Measure: warmThen(script(grepScript, c.ReadTree))},
		{Name: "find-debian-cold", Group: group, Title: "find+stat of a Debian root, cold", Slow: true, Cold: true, Layers: debian, Measure: coldThen(script(findScript, "."))},
		{Name: "tar-debian-cold", Group: group, Title: "tar of a Debian root, cold", Slow: true, Cold: true, Layers: debian, Measure: coldThen(script(tarScript, "."))},
		{Name: "find-npm-warm", Group: group, Title: "find+stat of node_modules, warm", Slow: true, Layers: npm, Measure: warmThen(script(findScript, "node_modules"))},
		{Name: "grep-npm-warm", Group: group, Title: "grep -r node_modules, warm", Slow: true, Layers: npm, Measure: warmThen(script(grepScript, "node_modules"))},
	}
}

// loopWorkloads are single system calls, many times.
func loopWorkloads(d dataFolder, c Scale) []*Workload {
	source := layer(d.set("go"))
	group := "warm loops"
	times := " x " + thousands(c.Loops)
	clients := make([]*Workload, 0, len(c.Clients))
	for _, n := range c.Clients {
		clients = append(clients, &Workload{
			Name: fmt.Sprintf("clients-%d", n), Group: "parallel", Title: fmt.Sprintf("%d clients open+read+close", n), Layers: source, Part: c.ReadTree,
			Measure: once(func(s *sample) Job {
				return Job{Kind: "parallel", Clients: n, Sub: &Job{Kind: "open", Path: s.path(c.ReadTree), Count: c.Files}}
			}),
		}, &Workload{
			Name: fmt.Sprintf("clients-create-%d", n), Group: "parallel", Title: fmt.Sprintf("%d clients create files", n), Slow: n > 1, Layers: source, Part: c.ReadTree,
			Measure: func(ctx context.Context, s *sample) (float64, error) {
				return s.job(ctx, Job{Kind: "parallel", Clients: n, Sub: &Job{Kind: "create", Other: filepath.Join(s.into(), "new"), Count: c.Ops / 10, Size: 1000}})
			},
		})
	}
	return append([]*Workload{
		{Name: "stat", Group: group, Title: "stat" + times, Layers: source, Part: c.ReadTree, Measure: once(func(s *sample) Job {
			return Job{Kind: "stat", Path: s.path(c.ReadTree), Count: c.Loops}
		})},
		{Name: "negative", Group: group, Title: "stat of missing names" + times, Layers: source, Part: c.ReadTree, Measure: once(func(s *sample) Job {
			return Job{Kind: "negative", Path: s.path(c.ReadTree), Count: c.Loops}
		})},
		{Name: "readlink", Group: group, Title: "readlink" + times, Layers: onceLayer(d.links), Measure: once(func(s *sample) Job {
			return Job{Kind: "readlink", Path: s.path("links"), Count: c.Loops}
		})},
		{Name: "open-one", Group: group, Title: "open+read+close of one file" + times, Layers: onceLayer(d.links), Measure: once(func(s *sample) Job {
			return Job{Kind: "open-one", Path: s.path("small"), Count: c.Loops}
		})},
		{Name: "open-many", Group: group, Title: "open+read+close of " + thousands(c.Files) + " files", Layers: source, Part: c.ReadTree, Measure: once(func(s *sample) Job {
			return Job{Kind: "open", Path: s.path(c.ReadTree), Count: c.Files}
		})},
	}, clients...)
}

// changingWorkloads make, change and remove many files.
func changingWorkloads(d dataFolder, c Scale) []*Workload {
	set, err := d.set("go")
	source := layer(set, err)
	tree := c.WriteTree
	fill := func(upper string) error { return copyTree(filepath.Join(set, tree), filepath.Join(upper, "new")) }
	group := "many files"
	return []*Workload{
		{
			Name: "untar", Group: group, Title: "untar of " + tree, Layers: onceLayer(d.links), Changes: true,
			Measure: func(ctx context.Context, s *sample) (float64, error) {
				archive, err := d.archive(tree)
				if err != nil {
					return 0, err
				}
				owners := "--same-owner"
				if !isRoot() {
					owners = "--no-same-owner" // only one id is mapped
				}
				return s.sh(ctx, `mkdir new && tar -C new "$2" -xf "$1"`, archive, owners)
			},
		},
		{Name: "cp-a", Group: group, Title: "cp -a of " + tree, Layers: source, Changes: true, Part: tree, Measure: once(script(`cp -a "$1" new`, tree))},
		{Name: "rm-upper", Group: group, Title: "rm -rf of an upper tree", Layers: source, Part: tree, Fill: fill, Measure: once(script(`rm -rf new`))},
		{Name: "rm-lower", Group: group, Title: "rm -rf of a lower tree", Layers: source, Changes: true, Part: tree, Measure: once(script(`rm -rf "$1"`, tree))},
		{Name: "chmod-lower", Group: group, Title: "chmod -R of a lower tree", Layers: source, Changes: true, Part: tree, Measure: once(script(`chmod -R g+w "$1"`, tree))},
		{
			Name: "chown-lower", Group: group, Title: "chown -R of a lower tree", Layers: source, Changes: true, Part: tree,
			Not: needsIDs, Measure: once(script(`chown -R 1:1 "$1"`, tree)),
		},
		{
			Name: "rename-lower", Group: group, Title: "rename of a lower directory", Layers: source, Changes: true, Part: tree,
			NotInMean: "the kernel refuses it without redirect_dir, so mv copies the tree",
			Measure:   once(script(`mv "$1" renamed`, tree)),
		},
	}
}

// needsIDs is the reason why a target cannot change owners.
func needsIDs(t *Target) string {
	if !isRoot() {
		return "only one user id is mapped"
	}
	return ""
}

// thousands writes a number with separators.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
