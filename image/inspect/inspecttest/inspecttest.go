// Package inspecttest has an inspector for tests.
package inspecttest

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/nix2img/nix2img/image/inspect"
)

// Counter is an inspector that counts regular files and their bytes, which it reads.
type Counter struct {
	V     int          // its version
	Looks atomic.Int32 // how many files it has looked at
}

// Count is what it finds in a tree.
type Count struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Name is that of an [inspect.Inspector].
func (c *Counter) Name() string { return "count" }

// Version is that of an [inspect.Inspector].
func (c *Counter) Version() int { return c.V }

// Wants is that of an [inspect.Inspector].
func (c *Counter) Wants(n *inspect.Node) inspect.Want {
	if n.IsFile() {
		return inspect.Stream
	}
	return inspect.Nothing
}

// Look is that of an [inspect.Inspector].
func (c *Counter) Look(_ context.Context, f *inspect.File) (any, error) {
	c.Looks.Add(1)
	return io.Copy(io.Discard, f)
}

// Facts is that of an [inspect.Inspector].
func (c *Counter) Facts(findings []any) (any, error) {
	sum := Count{Files: len(findings)}
	for _, n := range findings {
		sum.Bytes += n.(int64)
	}
	return sum, nil
}
