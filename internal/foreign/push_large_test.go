//go:build foreign && acceptance

package foreign

import (
	"path/filepath"
	"testing"

	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

// Of an image of which one line has changed, only the layers with that line are sent.
func TestPushMediumAgain(t *testing.T) {
	reg := registrytest.New(t)
	cache := filepath.Join(newDir(t), "cache")
	push := func(key string) int64 {
		args := append([]string{"push", "--cache", cache, "--compression", "zstd", reg.Host + "/medium:1"}, defaultSubject(key).args...)
		if r := run(t, command(args...)); r.code != 0 {
			t.Fatalf("push: exit code %d\n%s", r.code, r.stderr)
		}
		sent, _ := reg.Reset()
		return sent
	}
	first := push("MEDIUM")
	if again := push("MEDIUM"); again != 0 {
		t.Errorf("the second push has sent %d bytes", again)
	}
	changed := push("MEDIUM2")
	if changed == 0 || changed > 1<<20 {
		t.Errorf("the changed image has sent %d bytes of %d", changed, first)
	}
	t.Logf("sent %d bytes, then 0, then %d for the changed image", first, changed)
}
