package bench

import (
	"context"
	"path/filepath"
	"strings"
)

// toolWorkloads are what developers and image builds do.
func toolWorkloads(d dataFolder, c Scale) []*Workload {
	group := "tools"
	repository := layer(d.set("git"))
	list := []*Workload{
		{
			Name: "git-status", Group: group, Title: "git status, warm", Tools: []string{"git"}, Layers: repository,
			Measure: warmThen(script(gitScript + `git status --porcelain`)),
		},
		{
			Name: "git-checkout", Group: group, Title: "git checkout of another branch", Slow: true, Tools: []string{"git"}, Layers: repository, Changes: true,
			Measure: once(script(gitScript + `git checkout -q other`)),
		},
		{
			Name: "go-build", Group: group, Title: "go build " + strings.Join(c.Packages, " "), Layers: layer(d.set("go")),
			Measure: once(func(s *sample) Job {
				return Job{
					Kind: "exec", Dir: s.path("src"), Argv: append([]string{s.path("bin/go"), "build", "-o", "/dev/null"}, c.Packages...),
					Env: []string{"GOROOT=" + s.tree, "GOCACHE=" + filepath.Join(s.into(), "cache"), "GOFLAGS=", "GOTOOLCHAIN=local", "GODEBUG=", "GOGC=100", "GOENV=off"},
				}
			}),
		},
	}
	return append(list, packageWorkloads(d)...)
}

// gitScript works on a repository of another owner and without anybody's
// settings.
const gitScript = `export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_COUNT=1 ` +
	`GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'; cd tree; `

// aptScript installs the packages in the cache of a Debian root. The mount
// namespace ends with it, and with that the devices it needs.
const aptScript = `mount --rbind /dev dev && exec chroot . sh -c ` +
	`'DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-download install /var/cache/apt/archives/*.deb'`

// packageWorkloads install packages that are at hand.
func packageWorkloads(d dataFolder) []*Workload {
	group := "tools"
	return []*Workload{
		{
			Name: "apt-install", Group: group, Title: "apt-get install of cached packages", Slow: true, Tools: []string{"unshare", "chroot"},
			Layers: layer(d.set("debian")), Changes: true, Not: needsIDs,
			Measure: once(func(s *sample) Job {
				return Job{Kind: "exec", Dir: s.tree, Argv: []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", aptScript}}
			}),
		},
		{
			Name: "npm-ci", Group: group, Title: "npm ci from a cache", Slow: true, Tools: []string{"npm"}, Layers: layer(d.set("npm")), Changes: true,
			Measure: func(ctx context.Context, s *sample) (float64, error) {
				return s.sh(ctx, `npm ci --silent --offline --ignore-scripts --no-audit --no-fund --cache "$PWD/.npm-cache"`)
			},
		},
	}
}
