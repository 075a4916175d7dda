package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseHelper(t *testing.T) {
	mount8 := helper{name: "mount.unionfs", mount8: true}
	fuse := helper{name: "fuse-overlayfs"}
	tests := []struct {
		name string
		h    helper
		args string
		want helperCall
	}{
		{"mount(8)", mount8, "base /mnt -o rw,upperdir=/u", helperCall{args: []string{"base", "/mnt"}, opts: MountOptions{Options: []string{"rw,upperdir=/u"}}}},
		{"mount(8) flags", mount8, "base /mnt -svn -N ns -t fuse.unionfs -o ro", helperCall{args: []string{"base", "/mnt"}, opts: MountOptions{Options: []string{"ro"}}}},
		{"fake", mount8, "base /mnt -f", helperCall{args: []string{"base", "/mnt"}, fake: true}},
		{"podman", fuse, "-o lowerdir=a:b,upperdir=u,workdir=w /merged", helperCall{args: []string{"/merged"}, opts: MountOptions{Options: []string{"lowerdir=a:b,upperdir=u,workdir=w"}}}},
		{"containerd", fuse, "overlay /merged -o lowerdir=a -t fuse-overlayfs", helperCall{args: []string{"overlay", "/merged"}, opts: MountOptions{Options: []string{"lowerdir=a"}}}},
		{"joined", fuse, "-olowerdir=a -fd /m", helperCall{args: []string{"/m"}, opts: MountOptions{Options: []string{"lowerdir=a"}, Foreground: true, Debug: true}}},
		{"letters before -o", fuse, "-do lowerdir=a -oro /m", helperCall{args: []string{"/m"}, opts: MountOptions{Options: []string{"lowerdir=a", "ro"}, Debug: true}}},
		{"version", fuse, "--version", helperCall{version: true}},
		{"after --", fuse, "-o ro -- -m", helperCall{args: []string{"-m"}, opts: MountOptions{Options: []string{"ro"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseHelper(tt.h, strings.Fields(tt.args))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.opts.lenient = true
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", *got, tt.want)
			}
		})
	}
	for _, args := range []string{"-o", "-x /m", "--nonsense"} {
		var usage *usageError
		if _, err := parseHelper(fuse, strings.Fields(args)); !errors.As(err, &usage) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestHelperExitCodes(t *testing.T) {
	tests := []struct {
		argv string
		code int
		out  string // on stdout or stderr
	}{
		{"mount.fuse.unionfs /mnt", exitFailure, "no layer given"},
		{"fuse-overlayfs --version", exitOK, "fuse-overlayfs: unionfs "},
		{"fuse-overlayfs -h", exitOK, "usage: fuse-overlayfs"},
		{"/sbin/mount.unionfs a /mnt -f", exitOK, ""},
	}
	for _, tt := range tests {
		var out, errs strings.Builder
		code := run(t.Context(), stdio{out: &out, err: &errs}, strings.Fields(tt.argv))
		if code != tt.code || !strings.Contains(out.String()+errs.String(), tt.out) {
			t.Errorf("%s: exit code %d, %q %q", tt.argv, code, out.String(), errs.String())
		}
	}
}

func TestUnknownOptionIsAWarningForHelpers(t *testing.T) {
	req, err := parseMount(&MountOptions{lenient: true, Options: []string{"lowerdir=/a,noxattrs,nonsense,workdir=/w"}}, []string{"/m"})
	if err != nil || len(req.warnings) != 3 {
		t.Errorf("warnings %q, %v", req.warnings, err)
	}
}
