package bench

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// filesBelow lists up to limit regular files below root, in the order of their
// names; fewer when there are no more.
func filesBelow(root string, limit int) ([]string, error) {
	return namesBelow(root, limit, func(e iofs.DirEntry) bool { return e.Type().IsRegular() })
}

func namesBelow(root string, limit int, want func(iofs.DirEntry) bool) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(path string, e iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if want(e) {
			found = append(found, path)
		}
		if len(found) >= limit {
			return filepath.SkipAll
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", root, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("list %s: nothing of the wanted kind there", root)
	}
	return found, nil
}

// statLoop is Count calls of lstat on up to 1000 files below Path.
func statLoop(job Job) (func() (int, error), error) {
	names, err := filesBelow(job.Path, 1000)
	if err != nil {
		return nil, err
	}
	once := func(name string) error {
		var st unix.Stat_t
		return unix.Lstat(name, &st)
	}
	return overNames(names, job.Count, once)
}

// negativeLoop is Count calls of lstat on 1000 names that are missing in Path.
func negativeLoop(job Job) (func() (int, error), error) {
	names := make([]string, 1000)
	for i := range names {
		names[i] = filepath.Join(job.Path, fmt.Sprintf("missing-%d", i))
	}
	once := func(name string) error {
		var st unix.Stat_t
		err := unix.Lstat(name, &st)
		if err == nil {
			return errors.New(name + " should be missing")
		}
		if !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	}
	return overNames(names, job.Count, once)
}

// readlinkLoop is Count calls of readlink on up to 1000 symlinks below Path.
func readlinkLoop(job Job) (func() (int, error), error) {
	names, err := namesBelow(job.Path, 1000, func(e iofs.DirEntry) bool { return e.Type()&iofs.ModeSymlink != 0 })
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	once := func(name string) error {
		_, err := unix.Readlink(name, buf)
		return err
	}
	return overNames(names, job.Count, once)
}

// openLoop opens, reads and closes Count files below Path, each once when there
// are as many.
func openLoop(job Job) (func() (int, error), error) {
	names, err := filesBelow(job.Path, job.Count)
	if err != nil {
		return nil, err
	}
	return openAll(names, job.Count, job.Sync)
}

// openOneLoop opens, reads and closes the file Path, Count times.
func openOneLoop(job Job) (func() (int, error), error) {
	return openAll([]string{job.Path}, job.Count, job.Sync)
}

// openAll reads each name, after one pass outside the clock unless cold.
func openAll(names []string, count int, cold bool) (func() (int, error), error) {
	buf := make([]byte, 128<<10)
	once := func(name string) error { return readFile(name, buf) }
	if cold {
		return func() (int, error) { return loop(names, count, once) }, nil
	}
	return overNames(names, count, once)
}

// readFile opens a file, reads it to its end and closes it, with no other
// system calls.
func readFile(name string, buf []byte) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("read %s: %w", name, err)
		}
		if n < len(buf) {
			return unix.Close(fd)
		}
	}
}

// readdirLoop lists the directory Path Count times, after once outside the clock
// unless Sync (cold).
func readdirLoop(job Job) (func() (int, error), error) {
	once := func(name string) error {
		_, err := os.ReadDir(name)
		return err
	}
	if job.Sync {
		return func() (int, error) { return loop([]string{job.Path}, job.Count, once) }, nil
	}
	return overNames([]string{job.Path}, job.Count, once)
}

// renameOnce renames Path to Other, Count times there and back.
func renameOnce(job Job) (func() (int, error), error) {
	return func() (int, error) {
		from, to := job.Path, job.Other
		for range max(job.Count, 1) {
			if err := os.Rename(from, to); err != nil {
				return 0, err
			}
			from, to = to, from
		}
		return max(job.Count, 1), nil
	}, nil
}

// createLoop makes the directory Other and Count files with Size bytes in it.
func createLoop(job Job) (func() (int, error), error) {
	data := make([]byte, job.Size)
	return func() (int, error) {
		if err := os.Mkdir(job.Other, 0o755); err != nil {
			return 0, err
		}
		for i := range job.Count {
			if err := os.WriteFile(filepath.Join(job.Other, fmt.Sprintf("f%d", i)), data, 0o644); err != nil {
				return i, err
			}
		}
		return job.Count, nil
	}, nil
}

// overNames calls once for each name outside the clock, to make all warm; the
// timed part makes count calls, going round the names.
func overNames(names []string, count int, once func(string) error) (func() (int, error), error) {
	if _, err := loop(names, len(names), once); err != nil {
		return nil, err
	}
	return func() (int, error) { return loop(names, count, once) }, nil
}

func loop(names []string, count int, once func(string) error) (int, error) {
	for i := range count {
		if err := once(names[i%len(names)]); err != nil {
			return i, err
		}
	}
	return count, nil
}
