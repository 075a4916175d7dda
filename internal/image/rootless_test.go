package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// rootlessWork imports dir/in.tar, unpacks it and packs what came out to
// dir/out.tar, as a user without rights.
func rootlessWork(store *Store, dir string) error {
	f, err := os.Open(filepath.Join(dir, "in.tar"))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	ctx := context.Background()
	if _, err := store.Import(ctx, ImportRequest{Tar: f, Commit: CommitRequest{Name: &Reference{Name: "test", Tag: "1"}}}); err != nil {
		return err
	}
	img, err := store.Find("test:1")
	if err != nil {
		return err
	}
	unpacked, err := store.Unpack(ctx, img, whiteout.User, nil)
	if err != nil {
		return err
	}
	l, err := stack.OpenDir(unpacked[0].Dir, stack.DirOptions{Namespace: whiteout.User})
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // only read
	out, err := os.Create(filepath.Join(dir, "store", "out.tar"))
	if err != nil {
		return err
	}
	opt := pack.Options{LowersUnknown: true, Namespace: whiteout.User, OverrideStat: true}
	if _, err = pack.Write(ctx, stack.New([]stack.Layer{l}), out, opt); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	// What is unpacked can be removed again, whatever its modes.
	return sys.RemoveTree(store.path(unpackedDir))
}

func TestAUserWithoutRightsKeepsOwnersModesAndDevices(t *testing.T) {
	needRoot(t)
	var in bytes.Buffer
	tw := tar.NewWriter(&in)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: ".wh.old", Mode: 0o600},
		{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o555, Uid: 33, Gid: 34},
		{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o4755, Uid: 33},
		{Typeflag: tar.TypeChar, Name: "dev", Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeReg, Name: "none", Mode: 0, Uid: 5},
		{Typeflag: tar.TypeReg, Name: "own", Mode: 0o640, Uid: 1234, Gid: 1234},
	} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir, whose parent is closed to others.
	dir, err := os.MkdirTemp("", "unionfs-rootless-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	shell(t, dir, fmt.Sprintf("chmod 755 .; cp %s exe; mkdir -m 777 store; chown 1234:1234 store", exe))
	if err := os.WriteFile(filepath.Join(dir, "in.tar"), in.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "exe"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), crashEnv+"=rootless:"+filepath.Join(dir, "store")+":"+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	got := owners(t, mustRead(t, filepath.Join(dir, "store", "out.tar")))
	if want := owners(t, in.String()); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// owners lists the entries of a tar with their owners, modes and devices.
func owners(t *testing.T, data string) []string {
	t.Helper()
	var out []string
	tr := tar.NewReader(bytes.NewReader([]byte(data)))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %c %o %d:%d %d:%d", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Devmajor, h.Devminor))
	}
}
