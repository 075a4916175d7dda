package tarlayer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// keptEntry is one blob's part of the cache.
type keptEntry struct {
	paths []string
	bytes int64
	used  time.Time
}

// Usage is how many bytes the cache in dir ("" is DefaultCacheDir) takes. No
// cache is 0.
func Usage(dir string) (int64, error) {
	entries, _, err := listCache(dir)
	total := int64(0)
	for _, e := range entries {
		total += e.bytes
	}
	return total, err
}

// Prune removes what was not used for longest from the cache in dir ("" is
// DefaultCacheDir) until it takes at most maxBytes, and what interrupted writers
// left. Layers that are open go on working. It returns the bytes freed.
func Prune(dir string, maxBytes int64) (freed int64, err error) {
	entries, stale, err := listCache(dir)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	list := make([]*keptEntry, 0, len(entries))
	for _, e := range entries {
		total += e.bytes
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *keptEntry) int { return a.used.Compare(b.used) })
	var errs []error
	remove := func(e *keptEntry) {
		for _, p := range e.paths {
			if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
				return
			}
		}
		freed += e.bytes
	}
	remove(stale)
	for _, e := range list {
		if total <= maxBytes {
			break
		}
		remove(e)
		total -= e.bytes
	}
	return freed, errors.Join(errs...)
}

// listCache lists the cache by blob, and apart from that what no writer is
// thought to need any more.
func listCache(dir string) (entries map[string]*keptEntry, stale *keptEntry, err error) {
	if dir == "" {
		dir = DefaultCacheDir()
	}
	entries, stale = make(map[string]*keptEntry), &keptEntry{}
	if dir == "" {
		return entries, stale, nil
	}
	err = filepath.WalkDir(filepath.Join(dir, cacheParts), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since it was listed, or no cache yet
		}
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		e := stale
		switch temp := strings.HasPrefix(d.Name(), cacheTemp); {
		case temp && time.Since(fi.ModTime()) < tempAge:
			return nil
		case !temp:
			key := filepath.Join(filepath.Dir(path), blobOf(d.Name()))
			if e = entries[key]; e == nil {
				e = &keptEntry{}
				entries[key] = e
			}
		}
		e.paths = append(e.paths, path)
		e.bytes += fi.Size()
		if fi.ModTime().After(e.used) {
			e.used = fi.ModTime()
		}
		return nil
	})
	return entries, stale, err
}

// blobOf cuts a file's name down to the part that names the blob.
func blobOf(name string) string {
	if i := strings.IndexAny(name, "-."); i > 0 {
		return name[:i]
	}
	return name
}
