// Package difftest proves what a union filesystem does by doing the same to
// kernel overlayfs and comparing.
//
// A Case is a stack of layers written as text, and a list of operations. It is
// run on two targets over the same layers by worker processes (the test binary
// started again, see RunWorker), so that no process touches a FUSE mount that it
// serves itself. After each operation the errno and what it observed are
// compared, at the end the merged trees, then each upper is mounted by the
// other target and compared again, and the marks in the uppers are compared.
// The lower layers must be as before, to the byte.
//
// Cases come from a seeded generator (Generator), from the trap tests, or from
// a file. A failing case is made smaller (Shrink) before it is shown.
package difftest
