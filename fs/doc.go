// Package fs is the FUSE filesystem of unionfs.
package fs
