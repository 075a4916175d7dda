package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// ErrDenied means that a registry does not let this user do what was asked.
var ErrDenied = errors.New("access denied")

// RegistryOptions says how a registry is talked to.
type RegistryOptions struct {
	PlainHTTP bool           // http instead of https
	Platform  ispec.Platform // of Pull: which image of several; zero is this machine's
	Parallel  int            // blobs moved at once; 0 is 3, as docker has it
	UserAgent string
	// Progress is told how each layer gets on. It may be called concurrently.
	Progress func(LayerProgress)
}

// Phase is where the transfer of one layer is.
type Phase string

// The phases, in docker's words.
const (
	PhaseWaiting     Phase = "Waiting"
	PhaseDownloading Phase = "Downloading"
	PhasePulled      Phase = "Pull complete"
	PhaseExists      Phase = "Already exists"
	PhasePushing     Phase = "Pushing"
	PhasePushed      Phase = "Pushed"
	PhaseMounted     Phase = "Mounted"
	PhaseHas         Phase = "Layer already exists"
	PhaseRetrying    Phase = "Retrying"
)

// LayerProgress is news of one layer.
type LayerProgress struct {
	Digest      digest.Digest
	Phase       Phase
	Done, Total int64  // bytes
	Detail      string // the repository it was mounted from, or why it is retried
}

const (
	defaultParallel = 3
	// maxAttempts is how often a blob is tried before its error counts.
	maxAttempts = 5
)

// registryClient talks to one repository.
type registryClient struct {
	repo *remote.Repository
	ref  registry.Reference
	opt  RegistryOptions
}

// newRegistryClient makes a client for the repository that name is in.
func newRegistryClient(name Reference, opt RegistryOptions) (*registryClient, error) {
	full, err := registry.ParseReference(name.Full())
	if err != nil {
		return nil, fmt.Errorf("image name %s: %w", name, err)
	}
	if opt.Parallel <= 0 {
		opt.Parallel = defaultParallel
	}
	if opt.Progress == nil {
		opt.Progress = func(LayerProgress) {}
	}
	client := &auth.Client{
		Client: retry.NewClient(), Cache: auth.NewCache(),
		Credential: credentialsFor(full), Header: http.Header{},
	}
	if opt.UserAgent != "" {
		client.SetUserAgent(opt.UserAgent)
	}
	repo := &remote.Repository{Client: client, Reference: full, PlainHTTP: opt.PlainHTTP}
	repo.ManifestMediaTypes = []string{
		ispec.MediaTypeImageIndex, ispec.MediaTypeImageManifest, dockerManifestList, dockerManifest,
	}
	return &registryClient{repo: repo, ref: full, opt: opt}, nil
}

// tagOrDigest is what a name asks the registry for.
func tagOrDigest(name Reference) string {
	if name.Digest != "" {
		return name.Digest.String()
	}
	return name.Tag
}

// explain makes an error of the registry one that says what to do.
func (c *registryClient) explain(err error) error {
	var resp *errcode.ErrorResponse
	var badScheme bool
	if err != nil {
		badScheme = strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errdef.ErrNotFound):
		return fmt.Errorf("%w: %s in the registry %s", ErrNotFound, c.ref.Repository, c.ref.Registry)
	case badScheme:
		return fmt.Errorf("the registry %s speaks http only; say --plain-http if you trust the way to it: %w", c.ref.Registry, err)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("%w to %s: it wants a login: docker login or podman login %s", ErrDenied, c.ref.Registry, c.ref.Registry)
	case errors.As(err, &resp) && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden):
		return fmt.Errorf("%w to %s/%s; log in with docker login or podman login %s: %w",
			ErrDenied, c.ref.Registry, c.ref.Repository, c.ref.Registry, err)
	}
	return err
}

// lasting tells whether trying again cannot help.
func lasting(err error) bool {
	var resp *errcode.ErrorResponse
	if errors.As(err, &resp) {
		return resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout
	}
	return errors.Is(err, errdef.ErrNotFound) || errors.Is(err, auth.ErrBasicCredentialNotFound) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// attempts calls do until it succeeds, fails for good, or has failed too often.
func (c *registryClient) attempts(ctx context.Context, d ispec.Descriptor, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if err == nil || ctx.Err() != nil || lasting(err) || n == maxAttempts || n > 1 && errors.Is(err, ErrCorrupt) {
			return err // what comes wrong twice is wrong over there
		}
		c.opt.Progress(LayerProgress{Digest: d.Digest, Phase: PhaseRetrying, Total: d.Size, Detail: err.Error()})
		select {
		case <-time.After(time.Duration(n*n) * 200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inParallel runs do for each descriptor, some at once. The first error ends
// the others and is returned.
func (c *registryClient) inParallel(ctx context.Context, list []ispec.Descriptor, do func(context.Context, ispec.Descriptor) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan struct{}, c.opt.Parallel)
	errs := make(chan error, len(list))
	for _, d := range list {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			err := ctx.Err()
			if err == nil {
				err = do(ctx, d)
			}
			errs <- err
		}()
	}
	var first error
	for range list {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// uniqueBlobs are the blobs of a manifest, each once.
func uniqueBlobs(list []ispec.Descriptor) []ispec.Descriptor {
	seen := make(map[digest.Digest]bool)
	var out []ispec.Descriptor
	for _, d := range list {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			out = append(out, d)
		}
	}
	return out
}

// fetchManifest asks for a manifest by tag or digest, down through indexes to
// the one of the platform. It returns the manifest as it is stored.
func (c *registryClient) fetchManifest(ctx context.Context, reference string, depth int) (ispec.Descriptor, []byte, error) {
	if depth > maxNesting {
		return ispec.Descriptor{}, nil, fmt.Errorf("read index %s: %w: indexes nested too deep", reference, ErrCorrupt)
	}
	d, r, err := c.repo.Manifests().FetchReference(ctx, reference)
	if err != nil {
		return d, nil, c.explain(err)
	}
	raw, err := readBounded(r, reference)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return d, nil, fmt.Errorf("fetch manifest %s: %w", reference, err)
	}
	if d.Digest.Validate() != nil || d.Digest != d.Digest.Algorithm().FromBytes(raw) {
		return d, nil, fmt.Errorf("fetch manifest %s: %w: its bytes are not those of %s", reference, ErrCorrupt, d.Digest)
	}
	d.Size = int64(len(raw))
	var m manifestOrIndex
	if err := json.Unmarshal(raw, &m); err != nil {
		return d, nil, fmt.Errorf("fetch manifest %s: %w: %w", reference, ErrCorrupt, err)
	}
	switch {
	case m.Config != nil:
		return d, raw, nil
	case m.Manifests != nil:
		sub, err := pickPlatformFor(m.Manifests, c.opt.Platform)
		if err != nil {
			return d, nil, fmt.Errorf("%s: %w", c.ref, err)
		}
		return c.fetchManifest(ctx, sub.Digest.String(), depth+1)
	case m.FSLayers != nil:
		return d, nil, fmt.Errorf("image %s: docker's manifest schema 1 is not supported", c.ref)
	}
	return d, nil, fmt.Errorf("image %s: %w: neither a manifest nor an index", c.ref, ErrCorrupt)
}

// getBlob opens a blob of the repository from an offset on. from is where the
// answer really begins, which is 0 where the registry knows no ranges.
func (c *registryClient) getBlob(ctx context.Context, d ispec.Descriptor, off int64) (body io.ReadCloser, from int64, err error) {
	scheme := "https"
	if c.opt.PlainHTTP {
		scheme = "http"
	}
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", scheme, c.ref.Host(), c.ref.Repository, d.Digest)
	ctx = auth.AppendRepositoryScope(ctx, c.ref, auth.ActionPull)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	if off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, d.Size-1))
	}
	resp, err := c.repo.Client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return resp.Body, 0, nil
	case resp.StatusCode == http.StatusPartialContent && off > 0 &&
		strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", off)):
		return resp.Body, off, nil
	}
	_ = resp.Body.Close() // of an error nothing more is read
	if resp.StatusCode == http.StatusNotFound {
		return nil, 0, fmt.Errorf("blob %s: %w", d.Digest, errdef.ErrNotFound)
	}
	return nil, 0, &errcode.ErrorResponse{Method: req.Method, URL: req.URL, StatusCode: resp.StatusCode}
}
