// Package realtest holds the test that does the main job on a real image: a
// Debian system of three layers that mmdebstrap and umoci made is mounted,
// packages are installed, users added and directories removed in it, on unionfs
// and on kernel overlayfs, and everything is compared; then the change is
// committed, mounted and compared again. There is nothing but tests in it.
package realtest
