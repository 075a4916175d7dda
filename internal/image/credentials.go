package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// authFile is a file in which logins are kept, in docker's format: auths,
// credsStore, credHelpers.
type authFile struct {
	path string
	// podman's files may have a login for a part of a registry
	// (containers-auth.json(5)).
	byRepository bool
}

// authFiles lists the files to look into, the first match wins: podman's, then
// docker's.
func authFiles() []authFile {
	if p := os.Getenv("REGISTRY_AUTH_FILE"); p != "" {
		return []authFile{{p, true}}
	}
	var out []authFile
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run != "" {
		out = append(out, authFile{filepath.Join(run, "containers/auth.json"), true})
	}
	out = append(out, authFile{fmt.Sprintf("/run/containers/%d/auth.json", os.Geteuid()), true})
	if conf, err := os.UserConfigDir(); err == nil {
		out = append(out, authFile{filepath.Join(conf, "containers/auth.json"), true})
	}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		out = append(out, authFile{filepath.Join(dir, "config.json"), false})
	} else if home, err := os.UserHomeDir(); err == nil {
		out = append(out, authFile{filepath.Join(home, ".docker/config.json"), false})
	}
	return out
}

// credentialsFor finds the login for the registry of a repository, asking
// credential helpers where the files name them. Without one access is anonymous.
func credentialsFor(repo registry.Reference) auth.CredentialFunc {
	return func(ctx context.Context, host string) (auth.Credential, error) {
		for _, f := range authFiles() {
			if _, err := os.Stat(f.path); err != nil {
				continue
			}
			store, err := credentials.NewStore(f.path, credentials.StoreOptions{})
			if err != nil {
				return auth.EmptyCredential, fmt.Errorf("read logins from %s: %w", f.path, err)
			}
			for _, key := range loginKeys(repo, host, f.byRepository) {
				cred, err := store.Get(ctx, key)
				if err != nil {
					return auth.EmptyCredential, fmt.Errorf("get the login for %s by %s: %w", key, f.path, err)
				}
				if cred != auth.EmptyCredential {
					return cred, nil
				}
			}
		}
		return auth.EmptyCredential, nil
	}
}

// loginKeys are the names that a login for host may have in a file, the closest
// first.
func loginKeys(repo registry.Reference, host string, byRepository bool) []string {
	var keys []string
	if host == repo.Host() {
		if byRepository {
			for path := repo.Repository; path != ""; {
				keys = append(keys, repo.Registry+"/"+path)
				i := strings.LastIndexByte(path, '/')
				path = path[:max(i, 0)]
			}
		}
		if repo.Registry != host {
			keys = append(keys, repo.Registry)
		}
	}
	return append(keys, credentials.ServerAddressFromHostname(host))
}
