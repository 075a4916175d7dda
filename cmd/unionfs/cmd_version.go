package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"
)

// version is the release; the linker may set it (-X main.version=...).
var version = "0.1.0-dev"

// versionOptions are the flags of version.
type versionOptions struct {
	JSON bool
}

// AddFlags declares the flags.
func (o *versionOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

// versionInfo is what version --json prints.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Dirty   bool   `json:"dirty,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func newVersionCommand() *command {
	var opts versionOptions
	c := &command{
		name:  "version",
		usage: "[--json]",
		short: "print the version",
		flags: newFlagSet("version"),
	}
	opts.AddFlags(c.flags)
	c.run = func(_ context.Context, std stdio, args []string) error {
		return runVersion(std, opts, args)
	}
	return c
}

func runVersion(std stdio, opts versionOptions, args []string) error {
	if len(args) > 0 {
		return usagef("takes no arguments")
	}
	info := readVersion()
	if opts.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(info)
	}
	_, err := fmt.Fprintln(std.out, versionText(info))
	return err
}

func versionText(info versionInfo) string {
	text := "unionfs " + info.Version
	if len(info.Commit) >= 12 {
		text += " (" + info.Commit[:12]
		if info.Dirty {
			text += ", changed"
		}
		text += ")"
	}
	return fmt.Sprintf("%s %s %s/%s", text, info.Go, info.OS, info.Arch)
}

func readVersion() versionInfo {
	info := versionInfo{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Commit = s.Value
		case "vcs.modified":
			info.Dirty = s.Value == "true"
		}
	}
	return info
}
