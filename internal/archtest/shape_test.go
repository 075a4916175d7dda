package archtest

import (
	"go/ast"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// The budgets of one file and one function, in lines.
const (
	maxFileLines     = 500
	maxFunctionLines = 80
)

// exceptions are places where a rule does not hold, each with its reason:
// "rule place" -> reason. Places are files, or "file function".
var exceptions = map[string]string{
	"os.Exit scripts/testgate/main.go": "a tool of the test scripts, no part of unionfs; its exit code is its result",
}

// excepted tells whether a rule is lifted for a place.
func excepted(rule, place string) bool {
	return exceptions[rule+" "+place] != ""
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	for _, f := range load(t).production() {
		if _, seen := comments[f.pkg]; !seen {
			comments[f.pkg] = nil
		}
		if f.ast.Doc != nil {
			comments[f.pkg] = append(comments[f.pkg], f.name)
		}
	}
	for pkg, files := range comments {
		if len(files) != 1 {
			t.Errorf("package %s has %d package comments, want one: %v", pkg, len(files), files)
		}
	}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	m := load(t)
	for _, f := range m.production() {
		if f.lines > maxFileLines && !excepted("file length", f.name) {
			t.Errorf("%s has %d lines; the limit is %d: split it by subject", f.name, f.lines, maxFileLines)
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := m.fset.Position(fn.End()).Line - m.fset.Position(fn.Pos()).Line + 1
			if n > maxFunctionLines && !excepted("function length", f.name+" "+fn.Name.Name) {
				t.Errorf("%s: function %s has %d lines; the limit is %d", f.name, fn.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

func TestPackageNamesSayWhatTheyHold(t *testing.T) {
	for _, f := range load(t).files {
		for _, part := range strings.Split(f.pkg, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helpers", "helper", "misc"}, part) {
				t.Errorf("%s: a package named %s says nothing", f.name, part)
			}
		}
	}
}

func TestWhiteoutPrefixIsWrittenInOnePackage(t *testing.T) {
	m := load(t)
	for _, f := range m.production() {
		if f.pkg == "whiteout" || slices.Contains(testOnly, f.pkg) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.Contains(lit.Value, ".wh.") {
				t.Errorf("%s: the OCI whiteout prefix belongs to package whiteout, use its constant", m.fset.Position(lit.Pos()))
			}
			return true
		})
	}
}

func TestLibraryCodeNeverPanics(t *testing.T) {
	m := load(t)
	for _, f := range m.production() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "panic" {
				t.Errorf("%s: panic ends the daemon and with it the mount; return an error", m.fset.Position(call.Pos()))
			}
			return true
		})
		f.calls("log", func(function string, pos token.Pos) {
			if strings.HasPrefix(function, "Fatal") || strings.HasPrefix(function, "Panic") {
				t.Errorf("%s: log.%s ends the process; return an error", m.fset.Position(pos), function)
			}
		})
	}
}

func TestOnlyMainExits(t *testing.T) {
	m := load(t)
	for _, f := range m.files {
		f.calls("os", func(function string, pos token.Pos) {
			if function != "Exit" || f.name == "cmd/unionfs/main.go" || excepted("os.Exit", f.name) {
				return
			}
			if f.test && insideTestMain(f, pos) {
				return
			}
			t.Errorf("%s: os.Exit belongs to cmd/unionfs/main.go; return an error", m.fset.Position(pos))
		})
	}
}

// insideTestMain tells whether a position is in a test file's TestMain or in a
// function that is a whole process: one whose name ends in "Main" or "Daemon" or
// begins with "helper".
func insideTestMain(f sourceFile, pos token.Pos) bool {
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if ok && fn.Pos() <= pos && pos < fn.End() {
			return strings.HasSuffix(fn.Name.Name, "Main") || strings.HasSuffix(fn.Name.Name, "Daemon") || strings.HasPrefix(fn.Name.Name, "helper")
		}
	}
	return false
}

func TestUnsafeAndRawSystemCallsStayInSys(t *testing.T) {
	m := load(t)
	for _, f := range m.production() {
		if f.pkg == "internal/sys" {
			continue
		}
		if slices.Contains(f.imports(), "unsafe") {
			t.Errorf("%s imports unsafe, which only internal/sys may", f.name)
		}
		for _, importPath := range []string{"syscall", "golang.org/x/sys/unix"} {
			f.calls(importPath, func(function string, pos token.Pos) {
				if strings.HasPrefix(function, "Syscall") || strings.HasPrefix(function, "RawSyscall") {
					t.Errorf("%s: raw system calls belong to internal/sys", m.fset.Position(pos))
				}
			})
		}
	}
}

func TestTopLevelHasNoOtherDirectory(t *testing.T) {
	known := []string{
		"cmd", "fs", "whiteout", "cow", "mountinfo", "bench", "scripts", "internal", "docs", ".ci", ".git",
		"bin", "out", // made by the scripts, ignored by git
	}
	entries, err := os.ReadDir(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(known, e.Name()) {
			t.Errorf("directory %s at the top level; the top level holds %v and nothing else", e.Name(), known)
		}
	}
}

func TestExceptionsHaveReasonsAndAreNeeded(t *testing.T) {
	for key, reason := range exceptions {
		if strings.TrimSpace(reason) == "" {
			t.Errorf("exception %q has no reason", key)
		}
		fields := strings.Fields(key)
		if len(fields) < 2 {
			t.Errorf("exception %q is not of the form \"rule place\"", key)
		}
	}
}
