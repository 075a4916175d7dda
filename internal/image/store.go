package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// Store is the image store: a layout that is written too. Its methods may be
// called concurrently, by several processes.
type Store struct {
	*Layout
}

// StoreEnv names the environment variable that says where the store is.
const StoreEnv = "UNIONFS_STORE"

// DefaultRoot is where the store is: $UNIONFS_STORE, else
// $XDG_DATA_HOME/unionfs, else /var/lib/unionfs for root and
// ~/.local/share/unionfs for others.
func DefaultRoot() (string, error) {
	if d := os.Getenv(StoreEnv); d != "" {
		return d, nil
	}
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "unionfs"), nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/unionfs", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the image store: %w; set %s", err, StoreEnv)
	}
	return filepath.Join(home, ".local/share/unionfs"), nil
}

const (
	tmpDir      = "tmp"
	unpackedDir = "unpacked"
	journalFile = "journal"
	txPrefix    = "tx-"
)

// OpenStore opens the store in dir, making it where there is none, and removes
// what killed transactions left.
func OpenStore(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{&Layout{root: abs}}
	if _, err := os.Lstat(s.path(ispec.ImageLayoutFile)); errors.Is(err, fs.ErrNotExist) {
		if err := s.create(); err != nil {
			return nil, fmt.Errorf("make image store %s: %w", dir, err)
		}
	}
	l, err := OpenLayout(abs)
	if err != nil {
		return nil, err
	}
	s.Layout = l
	if err := s.tidy(); err != nil && !readOnly(err) {
		return nil, fmt.Errorf("open image store %s: %w", dir, err)
	}
	return s, nil
}

// OpenDefault opens the store at DefaultRoot.
func OpenDefault() (*Store, error) {
	root, err := DefaultRoot()
	if err != nil {
		return nil, err
	}
	return OpenStore(root)
}

func readOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
}

// create makes an empty layout; oci-layout comes last and makes it one.
func (s *Store) create() error {
	if ents, err := os.ReadDir(s.root); err == nil {
		for _, e := range ents {
			switch e.Name() {
			case ispec.ImageBlobsDir, tmpDir, unpackedDir, ispec.ImageIndexFile, "index.lock", "lost+found":
			default:
				return fmt.Errorf("the directory is neither empty nor an image layout (it has %q)", e.Name())
			}
		}
	}
	for _, d := range []string{"blobs/sha256", tmpDir, unpackedDir + "/sha256"} {
		if err := os.MkdirAll(s.path(d), 0o755); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(s.path(ispec.ImageIndexFile)); errors.Is(err, fs.ErrNotExist) {
		if err := writeSynced(s.path(ispec.ImageIndexFile), []byte(`{"schemaVersion":2,"manifests":[]}`)); err != nil {
			return err
		}
	}
	return writeSynced(s.path(ispec.ImageLayoutFile), []byte(`{"imageLayoutVersion":"`+ispec.ImageLayoutVersion+`"}`))
}

// writeSynced replaces a file by one rename, with a temporary name beside it.
func writeSynced(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // renamed, or of no use
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // only synced
	return d.Sync()
}

// lockFile opens a lock file of the store and locks it; how is unix.LOCK_SH or
// LOCK_EX, with LOCK_NB to fail with EWOULDBLOCK. Closing it unlocks.
func (s *Store) lockFile(name string, how int) (*os.File, error) {
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

const activityLock = tmpDir + "/lock"

// exclusive waits until no transaction runs, keeps new ones out until the
// returned file is closed, and removes what killed ones left.
func (s *Store) exclusive() (*os.File, error) {
	f, err := s.lockFile(activityLock, unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock image store: %w", err)
	}
	if err := s.recoverLocked(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// tidy removes what killed transactions left, unless one is running.
func (s *Store) tidy() error {
	left, err := s.leftovers()
	if err != nil || len(left) == 0 {
		return err
	}
	f, err := s.lockFile(activityLock, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // unlocks
	return s.recoverLocked()
}

// leftovers lists the directories of transactions, live ones too.
func (s *Store) leftovers() ([]string, error) {
	ents, err := os.ReadDir(s.path(tmpDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range ents {
		if e.Name() != "lock" {
			out = append(out, s.path(tmpDir, e.Name()))
		}
	}
	return out, nil
}

// recoverLocked removes the leftovers of killed transactions: their temporary
// files, and the blobs they had published that no image refers to.
//
// Preconditions: the activity lock is held exclusively.
func (s *Store) recoverLocked() error {
	left, err := s.leftovers()
	if err != nil || len(left) == 0 {
		return err
	}
	used, err := s.referenced()
	if err != nil {
		return fmt.Errorf("clean up after an interrupted command: %w", err)
	}
	for _, dir := range left {
		for _, d := range readJournal(filepath.Join(dir, journalFile)) {
			if used[d] {
				continue
			}
			path, err := s.BlobPath(d)
			if err != nil {
				continue
			}
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("clean up after an interrupted command: %w", err)
			}
		}
		if err := sys.RemoveTree(dir); err != nil {
			return fmt.Errorf("clean up after an interrupted command: remove %s: %w", dir, err)
		}
	}
	return nil
}

// changeIndex replaces index.json by what change makes of it, under its lock.
func (t *transaction) changeIndex(change func(*ispec.Index) error) error {
	s := t.s
	lock, err := s.lockFile("index.lock", unix.LOCK_EX)
	if err != nil {
		return fmt.Errorf("lock index.json: %w", err)
	}
	defer lock.Close() //nolint:errcheck // unlocks
	idx, err := s.Index()
	if err != nil {
		return err
	}
	if err := change(&idx); err != nil {
		return err
	}
	if idx.Manifests == nil {
		idx.Manifests = []ispec.Descriptor{}
	}
	b, err := json.Marshal(idx)
	if err != nil {
		return fmt.Errorf("write index.json: %w", err)
	}
	tmp := filepath.Join(t.dir, "index.json")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return fmt.Errorf("write index.json: %w", err)
	}
	if err := syncFile(tmp); err != nil {
		return fmt.Errorf("write index.json: %w", err)
	}
	failpoint(t.op, "index-temp")
	if err := os.Rename(tmp, s.path(ispec.ImageIndexFile)); err != nil {
		return fmt.Errorf("write index.json: %w", err)
	}
	failpoint(t.op, "index")
	return syncDir(s.root)
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // synced
	return f.Sync()
}
