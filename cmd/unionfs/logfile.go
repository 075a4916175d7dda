package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// maxLog is the size in bytes at which the default log file is moved aside.
const maxLog = 8 << 20

// openLog opens the log of a daemon and returns its path. A file that the user
// named must open; of the default one a failure is no reason not to mount: nil.
func openLog(named string) (*os.File, error) {
	if named != "" {
		f, err := os.OpenFile(named, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return nil, refusef("the log file cannot be opened: %w", err)
		}
		return f, nil
	}
	path := defaultLog()
	if path == "" || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return nil, nil
	}
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		_ = os.Rename(path, path+".1") // if not, the file only grows
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil //nolint:nilerr // mounting goes on without a log
	}
	return f, nil
}

// defaultLog is the path of the log when the user named none.
func defaultLog() string {
	if privileged() {
		return "/var/log/unionfs.log"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "unionfs", "unionfs.log")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "unionfs", "unionfs.log")
}

// newLogger makes the logger of a mount; f nil discards.
func newLogger(f *os.File, mountpoint string, debug bool) *slog.Logger {
	if f == nil {
		return slog.New(slog.DiscardHandler)
	}
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	h := slog.NewTextHandler(f, &slog.HandlerOptions{Level: level})
	return slog.New(h).With("mount", mountpoint, "pid", fmt.Sprint(os.Getpid()))
}
