package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/cow"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// leftovers are directories that a mount made for itself and removes when it
// ends. They are reached through descriptors opened before the mount, which may
// cover them.
type leftovers struct {
	list []leftover
}

// leftover is one such directory.
type leftover struct {
	parentFD int
	path     string
	name     string
	tree     bool // with all that is in it; else only when it holds nothing of use
}

// add notes the directory name of parent.
func (l *leftovers) add(parent, name string, tree bool) error {
	fd, err := unix.Open(parent, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", parent, err)
	}
	l.list = append(l.list, leftover{parentFD: fd, path: parent + "/" + name, name: name, tree: tree})
	return nil
}

// remove removes what is to be removed. It may be called twice.
func (l *leftovers) remove() error {
	var errs []error
	for _, d := range l.list {
		var err error
		if d.tree {
			err = cow.RemoveTree(d.parentFD, d.name)
		} else {
			err = removeWork(d.parentFD, d.name)
		}
		if err != nil && err != unix.ENOENT {
			errs = append(errs, fmt.Errorf("remove %s: %w", d.path, err))
		}
		_ = sys.Close(d.parentFD) // O_PATH: nothing to lose
	}
	l.list = nil
	return errors.Join(errs...)
}

// removeWork removes a workdir that holds nothing but its empty working
// directories. One with an index, a volatile mark or anything else stays.
func removeWork(parentFD int, name string) error {
	fd, err := sys.OpenInMount(parentFD, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	if sys.TryLock(fd) != nil {
		return sys.Close(fd) // another mount has taken it up already
	}
	for _, sub := range []string{"index", "work"} {
		_ = sys.Unlinkat(fd, sub, unix.AT_REMOVEDIR) // ENOTEMPTY: it is of use
	}
	err = sys.Unlinkat(parentFD, name, unix.AT_REMOVEDIR)
	_ = sys.Close(fd)
	if err == unix.ENOTEMPTY || err == unix.EEXIST {
		return nil
	}
	return err
}
