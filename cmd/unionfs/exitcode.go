package main

import (
	"context"
	"errors"
	"fmt"
)

// The exit codes of every command. They are an interface: scripts test them.
const (
	exitOK      = 0  // done
	exitFailure = 1  // the operation failed
	exitUsage   = 2  // the command line is wrong
	exitRefused = 3  // an input is missing, unreadable, in use or contradicts another
	exitMount   = 32 // mount failure, under the mount(8) helper names only
	exitSignal  = 130
)

// exitStatus is the EXIT STATUS section of every help text.
const exitStatus = `EXIT STATUS
  0    done
  1    the operation failed
  2    the command line is wrong
  3    refused: an input is missing, unreadable, in use or contradicts another
  32   mount failure, when called as mount.unionfs or mount.fuse.unionfs
  130  interrupted by a signal
`

// usageError is a mistake on the command line.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

// usagef makes a usage error.
func usagef(format string, args ...any) error {
	return &usageError{msg: fmt.Sprintf(format, args...)}
}

// refusedError is an input that the command cannot work with.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// refusef makes a refusal; %w works as in fmt.Errorf.
func refusef(format string, args ...any) error {
	return &refusedError{err: fmt.Errorf(format, args...)}
}

// silentError ends a command with a code after it has said everything itself.
type silentError struct{ code int }

func (e *silentError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// exitCode is the code that stands for an error.
func exitCode(err error) int {
	var usage *usageError
	var refused *refusedError
	var silent *silentError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &silent):
		return silent.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &refused):
		return exitRefused
	case errors.Is(err, context.Canceled):
		return exitSignal
	}
	return exitFailure
}
