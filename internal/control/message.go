package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Op names an operation.
type Op string

// The operations of the protocol.
const (
	OpStatus Op = "status"
	OpFreeze Op = "freeze"
	OpThaw   Op = "thaw"
	OpSync   Op = "sync"
	OpStop   Op = "stop"
	OpWait   Op = "wait"
)

// Request is one line from the client.
type Request struct {
	Op Op `json:"op"`
	// Millis bounds a freeze; zero is MaxFreeze.
	Millis int64 `json:"ms,omitempty"`
}

// Response is one line from the server. Error is empty when the operation was
// done; Errno is the errno in the error, if there was one.
type Response struct {
	Error  string  `json:"error,omitempty"`
	Errno  int     `json:"errno,omitempty"`
	Status *Status `json:"status,omitempty"`
}

// Layer is one lower layer of a mount.
type Layer struct {
	// Name is what the user called it: a path or an image reference with the
	// layer's number.
	Name string `json:"name"`
	// Dir is the directory it is read from; empty for a layer that has none.
	Dir string `json:"dir,omitempty"`
	// Blob is the layer file it is read from where it is not unpacked, and Digest
	// and DiffID are those of the file and of the tar in it.
	Blob   string `json:"blob,omitempty"`
	Digest string `json:"digest,omitempty"`
	DiffID string `json:"diff_id,omitempty"`
	// Image is the reference of the image that the layer is one of, where it was
	// given as an image.
	Image string `json:"image,omitempty"`
}

// Path is the directory or the file that the layer is read from.
func (l *Layer) Path() string {
	if l.Blob != "" {
		return l.Blob
	}
	return l.Dir
}

// Status is what a daemon says about its mount.
type Status struct {
	Mountpoint string  `json:"mountpoint"`
	Source     string  `json:"source"`
	Layers     []Layer `json:"layers"` // lowers, top first
	// Image is the reference of the image that the lowest layers came from,
	// and ImageLayers how many of Layers they are, counted from the bottom.
	Image       string    `json:"image,omitempty"`
	ImageLayers int       `json:"image_layers,omitempty"`
	Upper       string    `json:"upper,omitempty"`
	Work        string    `json:"work,omitempty"`
	Ephemeral   bool      `json:"ephemeral,omitempty"`
	PID         int       `json:"pid"`
	IO          string    `json:"io"`
	Options     string    `json:"options,omitempty"` // as for -o, with all directories
	Log         string    `json:"log,omitempty"`
	Version     string    `json:"version"`
	Started     time.Time `json:"started"`
	// Filesystem is the filesystem's own status, which this package does not
	// look into.
	Filesystem json.RawMessage `json:"filesystem,omitempty"`
}

// RemoteError is a failure that the daemon reports. errors.Is finds the errno.
type RemoteError struct {
	Op    Op
	Msg   string
	Errno syscall.Errno
}

// Error names the operation and what the daemon said.
func (e *RemoteError) Error() string { return fmt.Sprintf("%s: %s", e.Op, e.Msg) }

// Unwrap is the errno, if there is one.
func (e *RemoteError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// fail makes the response for an error; nil is success.
func fail(err error) Response {
	if err == nil {
		return Response{}
	}
	r := Response{Error: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		r.Errno = int(errno)
	}
	return r
}
