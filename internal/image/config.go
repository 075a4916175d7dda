package image

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Config is an image configuration: OCI's, with the fields that docker adds.
type Config struct {
	Created      *time.Time      `json:"created,omitempty"`
	Author       string          `json:"author,omitempty"`
	Comment      string          `json:"comment,omitempty"`
	Architecture string          `json:"architecture"`
	Variant      string          `json:"variant,omitempty"`
	OS           string          `json:"os"`
	OSVersion    string          `json:"os.version,omitempty"`
	Config       RunConfig       `json:"config"`
	RootFS       RootFS          `json:"rootfs"`
	History      []ispec.History `json:"history,omitempty"`
}

// RootFS lists the layers, bottom first.
type RootFS struct {
	Type    string          `json:"type"`
	DiffIDs []digest.Digest `json:"diff_ids"`
}

// RunConfig is how a container of the image runs.
type RunConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	OnBuild      []string            `json:"OnBuild,omitempty"`
	Healthcheck  *Healthcheck        `json:"Healthcheck,omitempty"`
	Shell        []string            `json:"Shell,omitempty"`
	StopTimeout  *int                `json:"StopTimeout,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"`
}

// Healthcheck is docker's; durations are nanoseconds.
type Healthcheck struct {
	Test          []string      `json:"Test,omitempty"`
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// clone makes a deep copy.
func (c *Config) clone() (Config, error) {
	var out Config
	b, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return out, fmt.Errorf("copy image configuration: %w", err)
	}
	return out, nil
}

// unkept are the fields of a base configuration that speak of the container it
// was made from, which is not this one.
var unkept = []string{"container", "container_config", "docker_version", "id", "parent", "throwaway", "moby.buildkit.buildinfo.v1"}

// encode writes the configuration as JSON. Fields of base, the JSON it came
// from, that this program does not know are kept.
func (c *Config) encode(base []byte) ([]byte, error) {
	known, err := toMap(c)
	if err != nil {
		return nil, err
	}
	if len(base) == 0 {
		return json.Marshal(known)
	}
	var old, oldRun map[string]json.RawMessage
	if err := json.Unmarshal(base, &old); err != nil {
		return nil, fmt.Errorf("read base configuration: %w", err)
	}
	if raw, ok := old["config"]; ok {
		if err := json.Unmarshal(raw, &oldRun); err != nil {
			return nil, fmt.Errorf("read base configuration: %w", err)
		}
	}
	for _, k := range unkept {
		delete(old, k)
	}
	var names Config
	dropKnown(old, names)
	dropKnown(oldRun, names.Config)
	run, err := toMap(c.Config)
	if err != nil {
		return nil, err
	}
	for k, v := range oldRun {
		run[k] = v
	}
	if known["config"], err = json.Marshal(run); err != nil {
		return nil, err
	}
	for k, v := range old {
		known[k] = v
	}
	return json.Marshal(known)
}

func toMap(v any) (map[string]json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	m := make(map[string]json.RawMessage)
	err = json.Unmarshal(b, &m)
	return m, err
}
