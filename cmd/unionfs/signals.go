package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// How long a mount that is to end and is in use is waited for, and how often it
// is tried.
const (
	busyWait  = 2 * time.Second
	busyRetry = 100 * time.Millisecond
)

// awaitEnd returns when the mount is gone. It unmounts on SIGTERM and SIGINT
// (which end ctx) and when a client asks for it. forced: a second signal asks to
// end although the mount is still in use.
func (d *daemon) awaitEnd(ctx context.Context, gone <-chan struct{}) (forced bool) {
	select {
	case <-gone:
		return false
	case <-ctx.Done():
	case <-d.stop:
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(again)
	if d.unmount(gone) {
		<-gone
		return false
	}
	// In use: it disappears for everybody else now, and what was written is
	// safe. Those who use it go on until a second signal.
	d.log.Warn("in use, unmounting lazily")
	err := flushOwnMount(d.plan.mountpoint)
	if serr := d.filesystem.Sync(); err == nil {
		err = serr
	}
	if err != nil {
		d.log.Error("flush", "error", err)
	}
	if err := unmountPath(d.plan.mountpoint, true); err != nil {
		d.log.Error("unmount lazily", "error", err)
	}
	select {
	case <-gone:
		return false
	case <-again:
		return true
	}
}

// unmount tries to unmount for a while and tells whether it is done.
func (d *daemon) unmount(gone <-chan struct{}) bool {
	for end := time.Now().Add(busyWait); ; {
		err := unmountPath(d.plan.mountpoint, false)
		if err == nil {
			return true
		}
		d.log.Debug("unmount", "error", err)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return false
		}
		select {
		case <-gone:
			return true
		case <-time.After(busyRetry):
		}
	}
}
