package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// modulePath is the first line of go.mod.
const modulePath = "github.com/unionfs-go/unionfs"

// A sourceFile is one parsed Go file of the module.
type sourceFile struct {
	name  string // relative to the root of the module, with slashes
	pkg   string // its directory, "." for the root
	test  bool
	lines int
	ast   *ast.File
}

// A module is every Go file of the tree.
type module struct {
	fset  *token.FileSet
	files []sourceFile
}

// moduleRoot is the directory of go.mod, seen from this package.
const moduleRoot = "../.."

// load parses the whole module once for each test; it takes milliseconds.
func load(t *testing.T) *module {
	t.Helper()
	m := &module{fset: token.NewFileSet()}
	err := filepath.WalkDir(moduleRoot, func(name string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(moduleRoot, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		return m.add(name, rel)
	})
	if err != nil {
		t.Fatalf("read the module: %v", err)
	}
	if len(m.files) == 0 {
		t.Fatal("found no Go file: the test looks in the wrong place")
	}
	return m
}

// add parses one file.
func (m *module) add(name, rel string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(m.fset, rel, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	m.files = append(m.files, sourceFile{
		name:  rel,
		pkg:   path.Dir(rel),
		test:  strings.HasSuffix(rel, "_test.go"),
		lines: strings.Count(string(text), "\n"),
		ast:   parsed,
	})
	return nil
}

// production gives the files that are part of the program.
func (m *module) production() []sourceFile {
	var out []sourceFile
	for _, f := range m.files {
		if !f.test {
			out = append(out, f)
		}
	}
	return out
}

// imports gives the import paths of a file.
func (f sourceFile) imports() []string {
	var out []string
	for _, spec := range f.ast.Imports {
		out = append(out, strings.Trim(spec.Path.Value, `"`))
	}
	return out
}

// importName gives the name under which a file uses an import path, or "".
func (f sourceFile) importName(importPath string) string {
	for _, spec := range f.ast.Imports {
		if strings.Trim(spec.Path.Value, `"`) != importPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

// calls reports every call of pkg.function, where pkg is an import path.
func (f sourceFile) calls(importPath string, report func(function string, pos token.Pos)) {
	local := f.importName(importPath)
	if local == "" {
		return
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == local {
			report(sel.Sel.Name, sel.Pos())
		}
		return true
	})
}
