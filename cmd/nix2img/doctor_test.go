package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine makes a doctor for a machine that has some files and some programs, which print the given lines.
func machine(t *testing.T, files, programs map[string]string) *doctor {
	t.Helper()
	t.Setenv("NIX_CONF_DIR", t.TempDir())
	t.Setenv("NIX_USER_CONF_FILES", "")
	t.Setenv("NIX_CONFIG", "")
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &doctor{
		root:    root,
		caching: caching{dir: filepath.Join(root, "cache")},
		run: func(_ context.Context, name string, _ ...string) (string, error) {
			line, ok := programs[name]
			if !ok {
				return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
			}
			return line, nil
		},
	}
}

func TestDoctorFindsWhatIsThere(t *testing.T) {
	for name, c := range map[string]struct {
		files, programs map[string]string
		want            []string // state, name and a part of the detail
	}{
		"nothing": {nil, nil, []string{
			"absent runtimes none on PATH", "unknown squashfs not loaded", "unknown user namespaces does not say", "absent FUSE no /dev/fuse",
			"absent nix not on PATH", "absent store no /nix/var/nix/db", "absent cache will be made", "absent NVIDIA no driver", "absent AMD no driver",
			"ok trusted keys cache.nixos.org-1",
		}},
		"a node": {map[string]string{
			"/proc/sys/kernel/osrelease":                        "6.1.0-18-amd64\n",
			"/boot/config-6.1.0-18-amd64":                       "CONFIG_SQUASHFS=m\nCONFIG_SQUASHFS_ZLIB=y\n# CONFIG_SQUASHFS_LZ4 is not set\nCONFIG_SQUASHFS_ZSTD=y\n",
			"/proc/sys/user/max_user_namespaces":                "127000\n",
			"/dev/fuse":                                         "",
			"/dev/nvidiactl":                                    "",
			"/proc/driver/nvidia/version":                       "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\n",
			"/proc/driver/nvidia/gpus/0000:3b:00.0/information": "Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ: 1\n",
			"/proc/driver/nvidia/gpus/0000:3c:00.0/information": "Model: \t\t NVIDIA A100-SXM4-80GB\n",
			"/sys/module/amdgpu/version":                        "6.7.0",
			"/dev/kfd":                                          "",
			"/cache/v2/.keep":                                   "",
		}, map[string]string{"singularity": "singularity-ce version 4.1.0-1", "apptainer": "apptainer version 1.3.6", "nix": "nix (Nix) 2.8.0"}, []string{
			"ok squashfs 6.1.0-18-amd64 reads gzip, zstd", "ok user namespaces no root", "ok FUSE /dev/fuse", "ok NVIDIA driver 535.54.03, NVIDIA A100-SXM4-80GB",
			"ok AMD amdgpu 6.7.0", "ok singularity 4.1.0: SIF (gzip, lz4, xz; not zstd), OCI-SIF", "ok apptainer 1.3.6: SIF (gzip, lz4, xz; zstd from 1.4", "ok nix 2.8.0",
			"ok cache 0 entries",
		}},
		"what does not work": {map[string]string{
			"/proc/sys/kernel/osrelease":         "5.14",
			"/lib/modules/5.14/config":           "CONFIG_EXT4_FS=y\n",
			"/proc/sys/user/max_user_namespaces": "0",
			"/proc/driver/nvidia/version":        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03\n",
			"/sys/module/amdgpu/version":         "6.7.0",
			"/nix/var/nix/db/db.sqlite":          "this is no database",
		}, map[string]string{"podman": "", "apptainer": "apptainer version 1.4.1"}, []string{
			"absent squashfs built without it", "problem user namespaces switched off", "problem NVIDIA 535.54.03", "problem AMD no /dev/kfd", "unknown podman does not say",
			"ok apptainer SIF (gzip, lz4, xz, zstd)", "problem store database",
		}},
	} {
		d := machine(t, c.files, c.programs)
		d.examine(t.Context())
		for _, want := range c.want {
			if !d.reports(want) {
				t.Errorf("%s: no %q in %+v", name, want, d.findings)
			}
		}
	}
}

// reports reports whether there is a finding with a state, a name and some text in its detail.
func (d *doctor) reports(want string) bool {
	for _, f := range d.findings {
		if rest, ok := strings.CutPrefix(want, string(f.State)+" "+f.Name+" "); ok && strings.Contains(f.Detail, rest) {
			return true
		}
	}
	return false
}

func TestVersionsAreCompared(t *testing.T) {
	for text, want := range map[string]bool{
		"1.4": true, "1.4.0-rc.1": true, "1.10.2": true, "2.0": true, "apptainer version 1.4.5-1.el9": true,
		"1.3.99": false, "0.9": false, "": false, "none": false, "1": false,
	} {
		if atLeast(text, 1, 4) != want {
			t.Errorf("%q is at least 1.4: %v", text, !want)
		}
	}
}
