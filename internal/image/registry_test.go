package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// testRegistry is a registry on loopback that counts requests and can misbehave.
type testRegistry struct {
	host string
	mu   sync.Mutex
	log  []string // "METHOD path[ range]"; guarded by mu
	// around may answer a request itself; it then returns true.
	around func(w http.ResponseWriter, r *http.Request) bool
}

func newRegistry(t *testing.T) *testRegistry {
	t.Helper()
	// No login of whoever runs the test.
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(t.TempDir(), "auth.json"))
	tr := &testRegistry{}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tr.mu.Lock()
		tr.log = append(tr.log, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Range")))
		around := tr.around
		tr.mu.Unlock()
		if around != nil && around(w, r) {
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	tr.host = strings.TrimPrefix(s.URL, "http://")
	return tr
}

// requests lists the requests that begin with prefix, and forgets all.
func (tr *testRegistry) requests(prefix string) []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var out []string
	for _, l := range tr.log {
		if strings.HasPrefix(l, prefix) {
			out = append(out, l)
		}
	}
	tr.log = nil
	return out
}

// name is the name of an image in the registry.
func (tr *testRegistry) name(t *testing.T, s string) Reference {
	t.Helper()
	ref, err := ParseReference(tr.host + "/" + s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

var plain = RegistryOptions{PlainHTTP: true}

// push pushes an image of two layers and returns it.
func (tr *testRegistry) push(t *testing.T, name string) (*Store, *Image) {
	t.Helper()
	s := newStore(t)
	img := addLayers(t, s, "two:1", "file a bottom\n", "file b "+strings.Repeat("top", 100)+"\n")
	if _, err := s.Push(context.Background(), img, tr.name(t, name), plain); err != nil {
		t.Fatal(err)
	}
	return s, img
}

func TestWhatIsPushedIsPulled(t *testing.T) {
	tr := newRegistry(t)
	_, img := tr.push(t, "team/app:1")
	s := newStore(t)
	phases := map[Phase]int{}
	opt := plain
	var mu sync.Mutex
	opt.Progress = func(p LayerProgress) {
		mu.Lock()
		defer mu.Unlock()
		phases[p.Phase]++
	}
	done, err := s.Pull(context.Background(), tr.name(t, "team/app:1"), opt)
	if err != nil {
		t.Fatal(err)
	}
	if done.ID != img.ID() || done.Manifest != img.Target.Digest || !done.Fresh || phases[PhasePulled] != 2 {
		t.Errorf("pulled %+v, phases %v; pushed %s", done, phases, img.ID())
	}
	got, err := s.Find(tr.host + "/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(got.Manifest.Layers, got.Manifest.Config) {
		r, err := s.Blob(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
		_ = r.Close()
	}
	tr.requests("")
	again, err := s.Pull(context.Background(), tr.name(t, "team/app:1"), opt)
	if blobs := tr.requests("GET /v2/team/app/blobs"); err != nil || again.Fresh || len(blobs) > 0 || phases[PhaseExists] != 2 {
		t.Errorf("second pull: %+v, %v, fetched %v", again, err, blobs)
	}
	byDigest := tr.name(t, "team/app@"+done.Manifest.String())
	if _, err := newStore(t).Pull(context.Background(), byDigest, plain); err != nil {
		t.Errorf("by digest: %v", err)
	}
}

func TestSecondPushSendsNothingAndMountsFromOtherRepositories(t *testing.T) {
	tr := newRegistry(t)
	s, img := tr.push(t, "a:1")
	tr.requests("")
	if _, err := s.Push(context.Background(), img, tr.name(t, "a:2"), plain); err != nil {
		t.Fatal(err)
	}
	if sent := tr.requests("POST"); len(sent) > 0 {
		t.Errorf("the second push sent %v", sent)
	}
	if err := s.Tag(img.ID().String(), tr.name(t, "a:1")); err != nil {
		t.Fatal(err)
	}
	// This registry knows a blob of one repository in all of them; most do not.
	tr.around = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead || !strings.HasPrefix(r.URL.Path, "/v2/b/blobs/") {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	if _, err := s.Push(context.Background(), img, tr.name(t, "b:1"), plain); err != nil {
		t.Fatal(err)
	}
	mounts := 0
	for _, l := range tr.requests("POST /v2/b/blobs/uploads/") {
		if strings.Contains(l, "from=a") && strings.Contains(l, "mount=sha256") {
			mounts++
		}
	}
	if mounts != 2 {
		t.Errorf("%d layers were asked to be mounted, want 2", mounts)
	}
	if _, err := newStore(t).Pull(context.Background(), tr.name(t, "b:1"), plain); err != nil {
		t.Error(err)
	}
}

// cutBlobs lets every first answer with a layer end in its middle.
func cutBlobs(tr *testRegistry, layers []ispec.Descriptor) {
	var mu sync.Mutex
	cut := map[string]bool{}
	tr.around = func(w http.ResponseWriter, r *http.Request) bool {
		i := strings.LastIndexByte(r.URL.Path, '/')
		for _, l := range layers {
			mu.Lock()
			first := !cut[r.URL.Path]
			if r.Method == http.MethodGet && r.URL.Path[i+1:] == l.Digest.String() && first {
				cut[r.URL.Path] = true
				mu.Unlock()
				rec := httptest.NewRecorder()
				r2, _ := http.NewRequest(http.MethodGet, "http://"+tr.host+r.URL.Path, nil)
				r2.Header.Set("Range", fmt.Sprintf("bytes=0-%d", l.Size-1))
				resp, err := http.DefaultClient.Do(r2)
				if err != nil {
					return false
				}
				_, _ = io.Copy(rec, resp.Body)
				_ = resp.Body.Close()
				w.Header().Set("Content-Length", fmt.Sprint(l.Size))
				_, _ = w.Write(rec.Body.Bytes()[:l.Size/2])
				return true
			}
			mu.Unlock()
		}
		return false
	}
}

func TestBrokenTransfersGoOnWhereTheyWere(t *testing.T) {
	tr := newRegistry(t)
	_, img := tr.push(t, "app:1")
	cutBlobs(tr, img.Manifest.Layers)
	tr.requests("")
	s := newStore(t)
	if _, err := s.Pull(context.Background(), tr.name(t, "app:1"), plain); err != nil {
		t.Fatal(err)
	}
	resumed := 0
	for _, l := range tr.requests("GET /v2/app/blobs") {
		if strings.Contains(l, " bytes=") && !strings.Contains(l, "bytes=0-") {
			resumed++
		}
	}
	if resumed != len(img.Manifest.Layers) {
		t.Errorf("%d transfers went on, want %d", resumed, len(img.Manifest.Layers))
	}
}

func TestAPartThatAKilledPullLeftIsUsed(t *testing.T) {
	tr := newRegistry(t)
	from, img := tr.push(t, "app:1")
	s := newStore(t)
	for i, l := range img.Manifest.Layers {
		path, err := from.BlobPath(l.Digest)
		if err != nil {
			t.Fatal(err)
		}
		data := []byte(mustRead(t, path))[:l.Size-10]
		if i == 1 {
			data = bytes.Repeat([]byte("x"), len(data)) // damaged: fetched anew
		}
		if err := os.MkdirAll(s.path(partialDir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(partialDir, l.Digest.Encoded()), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	done, err := s.Pull(context.Background(), tr.name(t, "app:1"), plain)
	if err != nil {
		t.Fatal(err)
	}
	want := img.Manifest.Config.Size + 10 + 10 + img.Manifest.Layers[1].Size
	if done.Bytes != want {
		t.Errorf("%d bytes were fetched, want %d", done.Bytes, want)
	}
	if left, err := os.ReadDir(s.path(partialDir)); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestWrongBytesFromARegistryAreRefused(t *testing.T) {
	tr := newRegistry(t)
	_, img := tr.push(t, "app:1")
	bad := img.Manifest.Layers[0]
	tr.around = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, bad.Digest.String()) {
			return false
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), int(bad.Size)))
		return true
	}
	s := newStore(t)
	if _, err := s.Pull(context.Background(), tr.name(t, "app:1"), plain); !errors.Is(err, ErrCorrupt) {
		t.Errorf("pull: %v", err)
	}
	if names := imageNames(t, s); names != "" {
		t.Errorf("the store has %s", names)
	}
	if _, err := s.Pull(context.Background(), tr.name(t, "app:2"), plain); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag that is not there: %v", err)
	}
}

func TestPlatformsAreChosen(t *testing.T) {
	tr := newRegistry(t)
	tr.push(t, "app:amd64")
	put := func(path, mediaType, body string) {
		req, err := http.NewRequest(http.MethodPut, "http://"+tr.host+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", mediaType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusCreated {
			t.Fatalf("put %s: %v %v", path, resp, err)
		}
		_ = resp.Body.Close()
	}
	resp, err := http.Get("http://" + tr.host + "/v2/app/manifests/amd64")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	entry := func(arch string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":%q}}`,
			ispec.MediaTypeImageManifest, digest.FromBytes(manifest), len(manifest), arch)
	}
	put("/v2/app/manifests/all", ispec.MediaTypeImageIndex,
		`{"schemaVersion":2,"mediaType":"`+ispec.MediaTypeImageIndex+`","manifests":[`+entry("riscv64")+","+entry("s390x")+`]}`)
	opt := plain
	opt.Platform = ispec.Platform{OS: "linux", Architecture: "s390x"}
	if _, err := newStore(t).Pull(context.Background(), tr.name(t, "app:all"), opt); err != nil {
		t.Error(err)
	}
	opt.Platform.Architecture = "arm64"
	if _, err := newStore(t).Pull(context.Background(), tr.name(t, "app:all"), opt); err == nil || !strings.Contains(err.Error(), "linux/riscv64, linux/s390x") {
		t.Errorf("arm64: %v", err)
	}
}

func TestLoginsAreTakenFromFilesAndHelpers(t *testing.T) {
	tr := newRegistry(t)
	_, _ = tr.push(t, "team/app:1")
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:secret"))
	tr.around = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == want {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "run"))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	helper := "#!/bin/sh\nread host\n[ \"$host\" = " + tr.host + " ] && echo '{\"Username\":\"ann\",\"Secret\":\"secret\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-testing"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	login := base64.StdEncoding.EncodeToString([]byte("ann:secret"))
	wrong := base64.StdEncoding.EncodeToString([]byte("bob:guess"))
	for _, c := range []struct{ name, file, text string }{
		{"docker", ".docker/config.json", `{"auths":{"HOST":{"auth":"` + login + `"}}}`},
		{"helper", ".docker/config.json", `{"credHelpers":{"HOST":"testing"}}`},
		{"podman", "run/containers/auth.json", `{"auths":{"HOST":{"auth":"` + login + `"}}}`},
		{"podman by repository", "config/containers/auth.json", `{"auths":{"HOST":{"auth":"` + wrong + `"},"HOST/team":{"auth":"` + login + `"}}}`},
		{"nobody", "nothing", ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("REGISTRY_AUTH_FILE", "")
			path := filepath.Join(dir, c.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(c.text, "HOST", tr.host)), 0o600); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(path) //nolint:errcheck // a file of the test
			_, err := newStore(t).Pull(context.Background(), tr.name(t, "team/app:1"), plain)
			if c.text == "" {
				if !errors.Is(err, ErrDenied) {
					t.Errorf("without a login: %v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}
