package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/unionfs-go/unionfs/internal/image"
)

// usedByMounts tells whether somebody reads the directory or file of the store
// at a path: a live mount says so, or a process has it open. The second finds
// daemons that do not answer and mounts of other mount namespaces.
func usedByMounts(ctx context.Context, store *image.Store) func(path string) bool {
	root, err := filepath.EvalSymlinks(store.Root())
	if err != nil {
		root = store.Root()
	}
	mounted, open := mountedDirs(ctx), openBelow(root)
	return func(path string) bool {
		if mounted[path] || open[path] {
			return true
		}
		rest, ok := strings.CutPrefix(path, store.Root()+"/")
		return ok && (mounted[root+"/"+rest] || open[root+"/"+rest])
	}
}

// openBelow are the paths below dir that processes have open, of those that
// this one may look into.
func openBelow(dir string) map[string]bool {
	out := make(map[string]bool)
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return out
	}
	for _, p := range procs {
		if name := p.Name(); name[0] < '1' || name[0] > '9' {
			continue
		}
		fds := "/proc/" + p.Name() + "/fd"
		list, err := os.ReadDir(fds)
		if err != nil {
			continue // it ended, or is another user's
		}
		for _, fd := range list {
			if path, err := os.Readlink(fds + "/" + fd.Name()); err == nil && strings.HasPrefix(path, dir+"/") {
				out[path] = true
			}
		}
	}
	return out
}
