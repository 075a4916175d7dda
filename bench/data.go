package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// dataFolder is the cache of data sets. Those of scripts/bench-data.sh are only
// read; the others are made at their first use and stay.
type dataFolder struct{ dir string }

// set is a data set of scripts/bench-data.sh.
func (d dataFolder) set(name string) (string, error) {
	dir := filepath.Join(d.dir, name)
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("no data set %s in %s; scripts/bench-data.sh makes it", name, d.dir)
	}
	return dir, nil
}

// make returns the generated data set of a name, filling a directory that gets
// the name when it is complete.
func (d dataFolder) make(name string, fill func(dir string) error) (string, error) {
	dir := filepath.Join(d.dir, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	fresh, err := os.MkdirTemp(d.dir, ".new-")
	if err != nil {
		return "", fmt.Errorf("make data set %s: %w", name, err)
	}
	if err := errors.Join(os.Chmod(fresh, 0o755), fill(fresh)); err != nil {
		return "", errors.Join(fmt.Errorf("make data set %s: %w", name, err), os.RemoveAll(fresh))
	}
	if err := os.Rename(fresh, dir); err != nil {
		return "", errors.Join(fmt.Errorf("make data set %s: %w", name, err), os.RemoveAll(fresh))
	}
	return dir, nil
}

// big is a layer with the file "big" of so many MiB.
func (d dataFolder) big(mib int) (string, error) {
	return d.make(fmt.Sprintf("big-%d", mib), func(dir string) error {
		timed, err := sequentialWrite(Job{Path: filepath.Join(dir, "big"), Size: int64(mib) << 20, Sync: true})
		if err != nil {
			return err
		}
		_, err = timed()
		return err
	})
}

// links is a layer with 1000 symlinks in the directory "links" and a small file.
func (d dataFolder) links() (string, error) {
	return d.make("links", func(dir string) error {
		if err := os.Mkdir(filepath.Join(dir, "links"), 0o755); err != nil {
			return err
		}
		for i := range 1000 {
			if err := os.Symlink("../small", filepath.Join(dir, "links", strconv.Itoa(i))); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(dir, "small"), randomBytes(2048), 0o644)
	})
}

// wide is a layer with n small files in the directory "wide".
func (d dataFolder) wide(n int) (string, error) {
	return d.make(fmt.Sprintf("wide-%d", n), func(dir string) error {
		return makeFiles(filepath.Join(dir, "wide"), n)
	})
}

// many is a layer with n files, 100 in each directory.
func (d dataFolder) many(n int) (string, error) {
	return d.make(fmt.Sprintf("many-%d", n), func(dir string) error {
		for i := range (n + 99) / 100 {
			if err := makeFiles(filepath.Join(dir, fmt.Sprintf("d%d", i)), min(100, n-i*100)); err != nil {
				return err
			}
		}
		return nil
	})
}

// layers are n layers, top first. Each has 20 files of its own in the directory
// "shared", which is merged, and a directory of its own.
func (d dataFolder) layers(n int) ([]string, error) {
	dir, err := d.make(fmt.Sprintf("layers-%d", n), func(dir string) error {
		for i := range n {
			layer := filepath.Join(dir, strconv.Itoa(i))
			if err := os.Mkdir(layer, 0o755); err != nil {
				return err
			}
			for _, sub := range []string{"shared", fmt.Sprintf("own%d", i)} {
				if err := makeNamedFiles(filepath.Join(layer, sub), fmt.Sprintf("l%d-", i), 20); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]string, n)
	for i := range list {
		list[i] = filepath.Join(dir, strconv.Itoa(i))
	}
	return list, nil
}

// archive is a tar file of a tree of the go data set.
func (d dataFolder) archive(tree string) (string, error) {
	set, err := d.set("go")
	if err != nil {
		return "", err
	}
	dir, err := d.make("archive-"+filepath.Base(tree), func(dir string) error {
		cmd := exec.Command("tar", "-C", filepath.Join(set, tree), "-cf", filepath.Join(dir, "tree.tar"), ".")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("run tar: %w: %s", err, out)
		}
		return nil
	})
	return filepath.Join(dir, "tree.tar"), err
}

func makeFiles(dir string, n int) error { return makeNamedFiles(dir, "f", n) }

func makeNamedFiles(dir, prefix string, n int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range n {
		name := filepath.Join(dir, prefix+strconv.Itoa(i))
		if err := os.WriteFile(name, []byte(name[len(dir):]), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies the contents of a directory into another one.
func copyTree(from, into string) error {
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("cp", "-a", "--reflink=auto", from+"/.", into)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}
