//go:build foreign && acceptance

package net_test

import "testing"

// PyTorch of Debian and CUDA without NCCL have nothing for networks but sockets.
func TestLargeHasNoNetwork(t *testing.T) {
	r := ofClosure(t, root(t, "LARGE"))
	if r.Summary() != nil || len(r.Programs)+len(r.Suspects)+len(r.Host) != 0 {
		t.Errorf("got %+v", r.Summary())
	}
}
