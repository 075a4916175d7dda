package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// unmountPath unmounts what is mounted on path: with umount2(2), or through
// fusermount3 without the right to that. EBUSY: it is in use. lazy takes it out
// of the tree at once, whoever uses it.
func unmountPath(path string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(path, flags)
	if err != unix.EPERM {
		return err
	}
	return fusermount(path, lazy)
}

// fusermount unmounts as a user without rights. Its errors are text; the one
// for a busy mount becomes EBUSY.
func fusermount(path string, lazy bool) error {
	bin, err := findFusermount()
	if err != nil {
		return err
	}
	args := []string{"-u", "--", path}
	if lazy {
		args = []string{"-u", "-z", "--", path}
	}
	cmd := exec.Command(bin, args...)
	// The text of the error is looked at, so it must not be a translated one.
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Dir = "/"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	switch text := strings.TrimSpace(stderr.String()); {
	case err == nil:
		return nil
	case strings.Contains(text, unix.EBUSY.Error()), strings.Contains(strings.ToLower(text), "device or resource busy"):
		return unix.EBUSY
	case text != "":
		return fmt.Errorf("unmount: %s", text)
	}
	return fmt.Errorf("run %s: %w", bin, err)
}

// findFusermount finds the set-user-id helper of libfuse.
func findFusermount() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount", "/bin/fusermount3", "/bin/fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("fusermount3 is not installed; install the package fuse3")
}

// forceUnmount ends a FUSE mount though it is in use or its daemon hangs: every
// request, those under way too, fails from now on (umount_begin and
// Documentation/filesystems/fuse.rst). minor is that of the mount's device.
func forceUnmount(path string, minor uint32) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_FORCE|unix.MNT_DETACH)
	if err != unix.EPERM {
		return err
	}
	abort := fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", minor)
	if err := os.WriteFile(abort, []byte("1"), 0); err != nil {
		return fmt.Errorf("abort the connection: %w", err)
	}
	return fusermount(path, true)
}
