// Command testgate runs "go test -json" and judges the result more strictly
// than go test does: a test that was skipped fails the run unless a list says
// why it may be. It prints the output of failed tests only, the packages'
// times, every skip with its reason, and closes with one line of counts.
//
//	testgate [-skips FILE] [-lenient] [-- ARGUMENTS OF GO TEST]
//
// With -lenient, for a machine that lacks something, other skips are only shown.
// Each line of FILE is "PACKAGE TEST REASON...": the package relative to the
// module, the test with its subtest, a trailing * standing for any rest.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
)

func main() {
	skips := flag.String("skips", "", "file that lists the tests that may be skipped")
	lenient := flag.Bool("lenient", false, "let other tests be skipped too")
	flag.Parse()
	if err := run(*skips, *lenient, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "testgate: %v\n", err)
		os.Exit(1)
	}
}

// run starts go test with the arguments and judges what it prints.
func run(skipsFile string, lenient bool, args []string, out io.Writer) error {
	allowed, err := readSkips(skipsFile)
	if err != nil {
		return err
	}
	if lenient {
		allowed = append(allowed, skipRule{pkg: "*", test: "*", reason: "this machine lacks what it needs"})
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("make a pipe from go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	r := newReport(out)
	readErr := r.read(stdout)
	waitErr := cmd.Wait()
	return errors.Join(readErr, r.close(allowed, waitErr))
}
