package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/cow"
	"github.com/unionfs-go/unionfs/fs"
	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/internal/mountopt"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/mountinfo"
)

// failPointVar names the step of a copy-up at which a crash test stops the
// daemon, see cow.ParseFailPoint.
const failPointVar = "UNIONFS_FAILPOINT"

// daemon serves one mount.
type daemon struct {
	plan    *mountPlan
	log     *slog.Logger
	logFile *os.File // nil without a log
	started time.Time

	filesystem *fs.FS
	server     *fs.Server
	control    *control.Server // nil when there is no place for the socket
	stop       chan struct{}   // a client asks for the end; one token
}

// serveMount mounts and serves until the mount is gone. With ready it is the
// process of a daemon that has to detach from its starter.
func serveMount(ctx context.Context, std stdio, req *mountRequest, ready *os.File) (err error) {
	prepareProcess()
	plan, err := planMount(req)
	defer func() {
		if rerr := plan.leftovers.remove(); err == nil {
			err = rerr
		}
	}()
	if err != nil {
		return err
	}
	d := &daemon{plan: plan, started: time.Now(), stop: make(chan struct{}, 1)}
	foreground := ready == nil && req.opts.Log == ""
	if foreground {
		d.log = newLogger(os.Stderr, plan.mountpoint, req.opts.Debug)
	} else {
		if d.logFile, err = openLog(req.opts.Log); err != nil {
			return err
		}
		d.log = newLogger(d.logFile, plan.mountpoint, req.opts.Debug)
	}
	for _, w := range req.warnings {
		d.log.Warn(w.Error())
	}
	// The directory of the socket is opened before the mount, which may cover it.
	dir, err := control.OpenDir()
	if err != nil {
		fmt.Fprintf(std.err, "unionfs: mount: warning: no control socket, so unionfs commit and umount cannot reach the daemon: %v\n", err)
	} else {
		defer dir.Close() //nolint:errcheck // only read
	}
	if err := d.mount(ctx); err != nil {
		return err
	}
	return d.serve(ctx, dir, ready)
}

// mount opens the layers, makes the filesystem and mounts it.
func (d *daemon) mount(ctx context.Context) error {
	cfg, err := d.config(ctx)
	if err != nil {
		return err
	}
	if d.filesystem, err = fs.New(cfg); err != nil {
		return refuseInput(err)
	}
	d.server, err = d.filesystem.Mount(d.plan.mountpoint, d.mountOptions())
	if err != nil {
		return errors.Join(err, d.filesystem.Close())
	}
	d.tuneBDI(d.plan.mountpoint)
	return nil
}

// refuseInput marks the errors of fs.New that are the input's fault.
func refuseInput(err error) error {
	for _, is := range []error{cow.ErrInUse, cow.ErrOtherFilesystem, cow.ErrVolatile, cow.ErrIncompatible} {
		if errors.Is(err, is) {
			return &refusedError{err}
		}
	}
	return err
}

// config makes the filesystem's configuration, with the layers opened.
func (d *daemon) config(ctx context.Context) (fs.Config, error) {
	p := d.plan
	o := p.req.parsed
	cfg := fs.Config{
		Upper: p.upper, Work: p.work, Namespace: p.namespace,
		RedirectDir: o.RedirectDir == "" || o.RedirectDir == mountopt.RedirectOn,
		Metacopy:    o.Metacopy != nil && *o.Metacopy,
		Index:       o.Index == nil || *o.Index,
		Volatile:    o.Volatile, NoACL: o.NoACL || allIsHis(&o), IO: fs.IOMode(o.IO),
		Ownership: ownershipOf(&o), WaitForUpper: p.waitForUpper(),
		FailPoint: os.Getenv(failPointVar), Log: d.log,
	}
	var err error
	if cfg.Lowers, err = d.openLayers(ctx); err != nil {
		return cfg, err
	}
	if p.req.opts.Ephemeral {
		err = p.dressEphemeral(stack.New(cfg.Lowers).Root().Top().Object.Attr())
	}
	if err != nil {
		closeLayers(cfg.Lowers)
	}
	return cfg, err
}

// openLayers opens the lowers. Files are indexed where they are not yet, which
// takes a while and which ctx ends.
func (d *daemon) openLayers(ctx context.Context) ([]stack.Layer, error) {
	p := d.plan
	fds := sys.NewFDCache(layerFDs())
	tars := tarOpener{ns: p.namespace, cache: p.req.opts.Cache, log: d.log, terminal: isTerminal(os.Stderr)}
	var out []stack.Layer
	for i := range p.lowers.Layers {
		l := &p.lowers.Layers[i]
		var layer stack.Layer
		var err error
		if l.Blob != "" {
			layer, err = tars.open(ctx, l)
		} else if layer, err = stack.OpenDir(l.Dir, stack.DirOptions{Namespace: p.namespace, FDs: fds}); err != nil {
			err = refusef("layer %s cannot be opened: %w", l.Name, err)
		}
		if err != nil {
			closeLayers(out)
			return nil, err
		}
		out = append(out, layer)
	}
	return out, nil
}

// closeLayers closes layers that were only read, when something else failed.
func closeLayers(layers []stack.Layer) {
	for _, l := range layers {
		_ = l.Close()
	}
}

// layerFDs is how many directory descriptors all lowers together keep open: an
// eighth of what the process may have.
func layerFDs() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return 128
	}
	return int(min(lim.Cur/8, 8192))
}

// mountOptions are the options of the kernel's side of the mount. A mount by
// root is open to all users under the kernel's permission checks, with set-id
// programs and devices working, as overlayfs is.
func (d *daemon) mountOptions() fs.MountOptions {
	o := d.plan.req.parsed
	m := fs.MountOptions{
		Source: d.plan.req.label, AllowOther: o.AllowOther,
		DefaultPermissions: !allIsHis(&o), Debug: d.plan.req.opts.Debug,
		Transport: fs.Transport(o.Transport),
		Writeback: o.Writeback == nil || *o.Writeback,
	}
	m.Spin, _ = fs.ParseSpin(o.Spin) // package mountopt has checked it
	if sys.HasCap(unix.CAP_SYS_ADMIN) {
		m.AllowOther = true
		for yes, no := range map[string]string{"suid": "nosuid", "dev": "nodev"} {
			if !slices.Contains(o.Generic, no) && !slices.Contains(o.Generic, yes) {
				m.Options = append(m.Options, yes)
			}
		}
	}
	for _, g := range o.Generic {
		switch g {
		case "async", "atime", "diratime", "relatime": // the kernel's defaults
		default:
			m.Options = append(m.Options, g)
		}
	}
	if d.plan.upper == "" {
		m.Options = append(m.Options, "ro")
	}
	slices.Sort(m.Options)
	return m
}

// serve opens the control socket, says that the mount is ready, and waits for
// its end, on which everything is flushed and let go.
func (d *daemon) serve(ctx context.Context, dir *control.Dir, ready *os.File) error {
	if dir != nil {
		if err := d.listen(dir); err != nil {
			return errors.Join(err, d.abort())
		}
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(err, d.abort())
	}
	if ready != nil {
		if err := detach(ready, d.logFile); err != nil {
			return errors.Join(err, d.abort())
		}
	}
	d.log.Info("mounted", "layers", len(d.plan.lowers.Layers), "upper", d.plan.upper, "io", d.filesystem.Status().IO,
		"transport", d.filesystem.Status().Transport)
	gone := make(chan struct{})
	go func() {
		d.server.Wait()
		close(gone)
	}()
	if d.awaitEnd(ctx, gone) {
		return d.leave()
	}
	return d.finish()
}

// leave ends the daemon while the mount is in use: everything is flushed, and
// the kernel fails all further requests when the process is gone. Nothing is
// closed, since requests may be under way.
func (d *daemon) leave() error {
	d.log.Warn("ending while the mount is in use")
	err := d.filesystem.Sync()
	if d.control != nil {
		d.control.Finish(err)
	}
	return err
}

// abort ends a mount that did not get ready.
func (d *daemon) abort() error {
	if err := unmountPath(d.plan.mountpoint, false); err != nil {
		return fmt.Errorf("unmount %s again: %w", d.plan.mountpoint, err)
	}
	d.server.Wait()
	return d.finish()
}

// finish flushes, lets go of the directories and tells those who wait.
func (d *daemon) finish() error {
	if d.control != nil {
		d.control.Quiesce()
	}
	err := d.filesystem.Close()
	if rerr := d.plan.leftovers.remove(); err == nil {
		err = rerr
	}
	if err != nil {
		d.log.Error("ended", "error", err)
	} else {
		d.log.Info("unmounted")
	}
	if d.control != nil {
		d.control.Finish(err)
	}
	return err
}

// listen opens the control socket under the device number of the mount.
func (d *daemon) listen(dir *control.Dir) error {
	table, err := mountinfo.Mounts()
	if err != nil {
		return err
	}
	m, ok := table.At(d.plan.mountpoint)
	if !ok || m.FSType != mountinfo.FSType {
		return fmt.Errorf("find the mount on %s in the mount table: it is not there", d.plan.mountpoint)
	}
	d.control, err = dir.Listen(m.Major, m.Minor, control.Handlers{
		Status: d.status,
		Freeze: d.filesystem.Freeze,
		Thaw:   d.filesystem.Thaw,
		Sync:   d.filesystem.Sync,
		Stop: func() error {
			select {
			case d.stop <- struct{}{}:
			default: // under way already
			}
			return nil
		},
	})
	return err
}

// status answers the control socket.
func (d *daemon) status() (control.Status, error) {
	st := d.filesystem.Status()
	raw, err := json.Marshal(st)
	if err != nil {
		return control.Status{}, fmt.Errorf("encode the filesystem's status: %w", err)
	}
	p := d.plan
	options := p.req.parsed
	options.Upper, options.Work, options.Lowers = p.upper, p.work, nil
	for _, l := range p.lowers.Layers {
		options.Lowers = append(options.Lowers, l.Path())
	}
	logPath := ""
	if d.logFile != nil {
		logPath = d.logFile.Name()
	}
	return control.Status{
		Mountpoint: p.mountpoint, Source: p.req.label,
		Layers: p.lowers.Layers, Image: p.lowers.Image, ImageLayers: p.lowers.ImageLayers,
		Upper: p.upper, Work: p.work, Ephemeral: p.req.opts.Ephemeral,
		PID: os.Getpid(), IO: string(st.IO), Options: options.String(),
		Log: logPath, Version: version, Started: d.started, Filesystem: raw,
	}, nil
}
