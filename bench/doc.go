// Package bench measures union filesystems beside each other: the same
// workloads over the same layers, on a plain directory, on the kernel's
// overlayfs, on unionfs and on its peers, in one run.
//
// It drives mounted directories only. A [Target] mounts a stack of layers, a
// [Workload] prepares and measures one thing on it, [Run] goes through rounds:
// in each round every workload runs on every target, in random order, on a
// fresh mount with a fresh upper directory. What is timed happens in a worker
// process (see [Worker]) which tells the time it took itself, so that starting
// processes and entering namespaces is not part of it.
//
// The result is a [Report]: medians, their spread, the ratio to the kernel's
// overlayfs in the same run and geometric means of these. Numbers of different
// runs or machines are not comparable; the ratios are meant to be.
package bench
