// Package archtest keeps the shape of the module by tests: which package may
// import which, where go-fuse, unsafe and os.Exit may stand, how long a file
// and a function may be. The table is docs/architecture.md in Go; a package
// that is not in it fails the test.
package archtest
