//go:build !race

package realtest

const raceEnabled = false
