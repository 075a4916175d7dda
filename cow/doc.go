// Package cow copies up one object.
package cow
