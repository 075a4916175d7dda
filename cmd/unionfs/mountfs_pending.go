//go:build !fsready

package main

import (
	"context"
	"errors"
	"os"
)

// serveMount fails until package fs can be built, see mountfs.go.
func serveMount(context.Context, stdio, *mountRequest, *os.File) error {
	return errors.New("this build has no filesystem yet")
}
