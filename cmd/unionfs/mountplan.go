package main

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/internal/mountopt"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/mountinfo"
	"github.com/unionfs-go/unionfs/whiteout"
)

// mountPlan is a mount whose inputs were found and checked. All paths are
// absolute and free of symlinks.
type mountPlan struct {
	req        *mountRequest
	mountpoint string
	lowers     lowers
	upper      string // empty: read-only
	work       string
	namespace  whiteout.Namespace
	leftovers  leftovers // what was made and is to be removed after the mount
}

// planMount finds and checks the inputs of a mount, in an order that makes
// directories of its own only when all else is well. The caller removes the
// plan's leftovers, also after an error.
func planMount(req *mountRequest) (*mountPlan, error) {
	p := &mountPlan{req: req}
	table, err := mountinfo.Mounts()
	if err != nil {
		return p, err
	}
	if err := checkFuse(fuseDevice, sys.HasCap(unix.CAP_SYS_ADMIN)); err != nil {
		return p, err
	}
	if p.mountpoint, err = resolveMountpoint(table, req.mountpoint); err != nil {
		return p, err
	}
	if err := p.findLayers(); err != nil {
		return p, err
	}
	c := checker{table: table, plan: p}
	if err := c.checkUpper(); err != nil {
		return p, err
	}
	if err := p.chooseNamespace(); err != nil {
		return p, err
	}
	if err := p.prepareUpper(&c); err != nil {
		return p, err
	}
	return p, c.checkMountpoint()
}

// findLayers resolves the lowers and the upper. A read-only mount of an upper
// has it as the top layer instead.
func (p *mountPlan) findLayers() error {
	r := p.req
	if len(r.parsed.Lowers) > 0 {
		for _, l := range r.parsed.Lowers {
			layer, err := resolveLayer(l)
			if err != nil {
				return err
			}
			p.lowers.Layers = append(p.lowers.Layers, layer)
		}
	} else {
		// Unpacking an image takes a while; mistakes are reported before.
		if r.parsed.Upper != "" {
			if _, err := resolveDir("upper directory", r.parsed.Upper); err != nil {
				return err
			}
		}
		var err error
		if p.lowers, err = resolveSources(r.sources, r.imageForm()); err != nil {
			return err
		}
	}
	if n := len(p.lowers.Layers); n > mountopt.MaxLayers {
		return &refusedError{&mountopt.TooManyError{Layers: n}}
	}
	if r.parsed.Upper == "" {
		return nil
	}
	upper, err := resolveDir("upper directory", r.parsed.Upper)
	if err != nil {
		return err
	}
	if r.parsed.ReadOnly {
		top := control.Layer{Name: r.parsed.Upper, Dir: upper}
		p.lowers.Layers = append([]control.Layer{top}, p.lowers.Layers...)
		return nil
	}
	p.upper = upper
	return nil
}

// helperWait is how long a mount under a helper's name waits for the daemon of the
// last one to end: podman unmounts and mounts the same upper at once, and the
// first daemon may have much to flush.
const helperWait = 30 * time.Second

// waitForUpper is how long to wait for the upper. Not where the workdir is a
// default one, which the other daemon removes when it ends.
func (p *mountPlan) waitForUpper() time.Duration {
	if p.req.opts.lenient && p.req.parsed.Work != "" {
		return helperWait
	}
	return 0
}

// chooseNamespace decides where marks are kept: as the user said, else as an
// upper that was used before has them, else as this process may.
func (p *mountPlan) chooseNamespace() error {
	p.namespace = whiteout.Trusted
	if p.req.parsed.UserXattr || !privileged() {
		p.namespace = whiteout.User
	}
	if p.upper == "" || p.req.parsed.UserXattr {
		return nil
	}
	fd, err := unix.Open(p.upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return refusef("upper directory %s cannot be opened: %w", p.upper, err)
	}
	defer sys.Close(fd) //nolint:errcheck // O_PATH: nothing to lose
	found, ok := whiteout.DetectNamespace(fd)
	if !ok || found == p.namespace {
		return nil
	}
	if found == whiteout.Trusted {
		return refusef("upper directory %s was written by root, with trusted.overlay.* attributes; "+
			"mount it as root, or take another upper", p.upper)
	}
	p.namespace = found
	return nil
}

// prepareUpper makes the directories of an ephemeral mount or the default
// workdir, and checks the workdir.
func (p *mountPlan) prepareUpper(c *checker) error {
	switch {
	case p.req.opts.Ephemeral:
		if err := p.makeEphemeral(); err != nil {
			return err
		}
		if err := c.checkUpper(); err != nil {
			return err
		}
	case p.upper == "":
		return nil
	case p.req.parsed.Work != "":
		work, err := resolveDir("workdir", p.req.parsed.Work)
		if err != nil {
			return err
		}
		p.work = work
	default:
		if err := p.makeWork(c.table); err != nil {
			return err
		}
	}
	return c.checkWork()
}

// makeWork makes the default workdir beside the upper, or takes the one there.
func (p *mountPlan) makeWork(table mountinfo.Table) error {
	parent, base := filepath.Split(p.upper)
	if base == "" {
		return refusef("the upper directory is /: give a workdir with --work")
	}
	parent = filepath.Clean(parent)
	if m, ok := table.At(p.upper); ok {
		return refusef("upper directory %s is itself a mountpoint (%s), so that nothing beside it is on its filesystem; "+
			"take a directory in it as upper, or give --work", p.upper, m.FSType)
	}
	work := filepath.Join(parent, "."+base+".unionfs-work")
	err := os.Mkdir(work, 0o700)
	if err != nil && !errors.Is(err, iofs.ErrExist) {
		return refusef("the default workdir cannot be made (%w); give one on the same filesystem with --work", err)
	}
	p.work = work
	return p.leftovers.add(parent, filepath.Base(work), false)
}

// makeEphemeral makes a temporary upper and workdir. The upper will look like
// the root of the topmost layer, since the mount's root looks like the upper: see
// dressEphemeral.
func (p *mountPlan) makeEphemeral() error {
	parent := os.Getenv("TMPDIR")
	if parent == "" {
		parent = "/var/tmp"
	}
	parent, err := resolveDir("temporary directory", parent)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "unionfs-ephemeral-")
	if err != nil {
		return refusef("no directory for the changes can be made (%w); set TMPDIR to one that is writable", err)
	}
	if err := p.leftovers.add(parent, filepath.Base(dir), true); err != nil {
		return err
	}
	p.upper, p.work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{p.upper, p.work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return fmt.Errorf("make the ephemeral upper: %w", err)
		}
	}
	return nil
}

// dressEphemeral gives a temporary upper owner and mode of the topmost layer's
// root.
func (p *mountPlan) dressEphemeral(a stack.Attr) error {
	if err := unix.Chown(p.upper, int(a.UID), int(a.GID)); err != nil && os.Geteuid() == 0 && err != unix.EINVAL {
		return fmt.Errorf("give the ephemeral upper the owner of layer %s: %w", p.lowers.Layers[0].Name, err)
	}
	if err := unix.Chmod(p.upper, a.Mode&0o7777); err != nil {
		return fmt.Errorf("give the ephemeral upper the mode of layer %s: %w", p.lowers.Layers[0].Name, err)
	}
	return nil
}
