package main

import (
	"strings"
	"testing"
)

func TestMountUsage(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "no MOUNTPOINT"},
		{"only a mountpoint", []string{"/mnt"}, "no layer given"},
		{"empty mountpoint", []string{"/a", ""}, "MOUNTPOINT is empty"},
		{"unknown flag", []string{"--uper", "/u", "/a", "/mnt"}, "unknown flag: --uper"},
		{"unknown option", []string{"-o", "upperdri=/u", "/a", "/mnt"}, `did you mean "upperdir"?`},
		{"unsupported option", []string{"-o", "noxattrs", "/a", "/mnt"}, "not supported"},
		{"bad value", []string{"-o", "index=maybe", "/a", "/mnt"}, "index must be one of"},
		{"two uppers", []string{"--upper", "/u", "-o", "upperdir=/v", "/a", "/mnt"}, "contradict"},
		{"workdir without upper", []string{"--work", "/w", "/a", "/mnt"}, "without an upper"},
		{"ephemeral and upper", []string{"--ephemeral", "--upper", "/u", "/a", "/mnt"}, "contradict"},
		{"ephemeral and ro", []string{"--ephemeral", "-o", "ro", "/a", "/mnt"}, "contradict"},
		{"layers twice", []string{"-o", "lowerdir=/a", "/b", "/c", "/mnt"}, "both by lowerdir and as arguments"},
		{"remount", []string{"-o", "remount,ro", "/a", "/mnt"}, "cannot be changed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs strings.Builder
			std := stdio{in: strings.NewReader(""), out: &out, err: &errs}
			code := run(t.Context(), std, append([]string{"unionfs", "mount"}, tt.args...))
			if code != exitUsage || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("exit code %d, %q; want %d with %q", code, errs.String(), exitUsage, tt.want)
			}
			if !strings.HasPrefix(errs.String(), "unionfs: mount: ") || out.Len() > 0 {
				t.Errorf("stderr %q, stdout %q", errs.String(), out.String())
			}
		})
	}
}

func TestSortArgs(t *testing.T) {
	tests := []struct {
		opts    string
		args    string
		sources string
		label   string
	}{
		{"", "/a /b /mnt", "/a /b", "unionfs"},
		{"lowerdir=/a", "/mnt", "", "unionfs"},
		{"lowerdir=/a", "overlay /mnt", "", "overlay"},
		{"lowerdir=/a,fsname=x", "overlay /mnt", "", "x"},
		{"upperdir=/u", "debian:12 /mnt", "debian:12", "unionfs"},
	}
	for _, tt := range tests {
		req, err := parseMount(&MountOptions{Options: []string{tt.opts}}, strings.Fields(tt.args))
		if err != nil {
			t.Errorf("%s %s: %v", tt.opts, tt.args, err)
			continue
		}
		if got := strings.Join(req.sources, " "); got != tt.sources || req.label != tt.label || req.mountpoint != "/mnt" {
			t.Errorf("%s %s: sources %q label %q mountpoint %q", tt.opts, tt.args, got, req.label, req.mountpoint)
		}
	}
}

func TestHelpIsOnStdout(t *testing.T) {
	for _, args := range []string{"--help", "help", "help mount", "mount --help", "umount -h", "version --help"} {
		var out, errs strings.Builder
		code := run(t.Context(), stdio{out: &out, err: &errs}, append([]string{"unionfs"}, strings.Fields(args)...))
		if code != exitOK || errs.Len() > 0 || !strings.Contains(out.String(), "EXIT STATUS") {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, code, out.String(), errs.String())
		}
	}
}

func TestUnknownCommandSuggestsTheNearest(t *testing.T) {
	var out, errs strings.Builder
	code := run(t.Context(), stdio{out: &out, err: &errs}, []string{"unionfs", "unmount"})
	if code != exitUsage || !strings.Contains(errs.String(), `did you mean "umount"?`) {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}
