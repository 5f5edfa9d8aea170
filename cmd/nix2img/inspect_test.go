package main

import (
	"bytes"
	"crypto"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sylabs/sif/v2/pkg/sif"
)

// writeSIF has the sif library write a SIF, and returns its name.
func writeSIF(t *testing.T, objects ...sif.DescriptorInput) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "other.sif")
	c, err := sif.CreateContainerAtPath(name, sif.OptCreateWithDescriptors(objects...))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.UnloadContainer(); err != nil {
		t.Fatal(err)
	}
	return name
}

func sifObject(t *testing.T, kind sif.DataType, data string, opts ...sif.DescriptorInputOpt) sif.DescriptorInput {
	t.Helper()
	in, err := sif.NewDescriptorInput(kind, strings.NewReader(data), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// TestInspectSIFsOfOthers lists objects and signatures of files without a root file system that can be read,
// of which ls says what there is instead.
func TestInspectSIFsOfOthers(t *testing.T) {
	signature := sifObject(t, sif.DataSignature, "-----BEGIN PGP SIGNED MESSAGE-----\n",
		sif.OptNoGroup(), sif.OptLinkedGroupID(1), sif.OptSignatureMetadata(crypto.SHA256, bytes.Repeat([]byte{0xab}, 20)))
	document := func() sif.DescriptorInput {
		return sifObject(t, sif.DataGenericJSON, "{}", sif.OptObjectName("x"+trick))
	}
	for _, tt := range []struct {
		name    string
		objects []sif.DescriptorInput
		want    []string
		ls      string
	}{
		{"documents", []sif.DescriptorInput{document(), signature},
			[]string{"objects 1 JSON.Generic, 2 B x", "2 Signature, ", "signed by key abababababababababababababababababababab (OpenPGP, of group 1)"},
			"no primary system partition"},
		{"ext3", []sif.DescriptorInput{document(), sifObject(t, sif.DataPartition, "ext3", sif.OptPartitionMetadata(sif.FsExt3, sif.PartPrimSys, "arm64"))},
			[]string{"2 FS (Ext3/*System/arm64), 4 B", "architecture arm64", `unreadable the root file system is of kind "Ext3"`},
			`of kind "Ext3"`},
		{"overlay", []sif.DescriptorInput{sifObject(t, sif.DataPartition, "ext3", sif.OptPartitionMetadata(sif.FsExt3, sif.PartOverlay, "amd64"))},
			[]string{"1 FS (Ext3/Overlay/amd64), 4 B"},
			"no primary system partition"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := writeSIF(t, tt.objects...)
			stdout, _, err := command(t, "inspect", name)
			if err != nil {
				t.Fatal(err)
			}
			words := strings.Join(strings.Fields(stdout), " ")
			for _, want := range tt.want {
				if !strings.Contains(words, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
			if strings.Contains(stdout, "run it with") || strings.ContainsAny(stdout, "\x1b\u009b\u202e") {
				t.Errorf("it says\n%s", stdout)
			}
			stdout, _, err = command(t, "inspect", "--json", name)
			var in inspection
			if err != nil || json.Unmarshal([]byte(stdout), &in) != nil || len(in.Objects) != len(tt.objects) || in.Unreadable == "" {
				t.Errorf("%s, error %v", stdout, err)
			}
			if _, stderr, err := command(t, "ls", name); err == nil || !strings.Contains(stderr, tt.ls) || !strings.Contains(stderr, "hint: nix2img inspect") {
				t.Errorf("ls: %s", stderr)
			}
		})
	}
}

// TestInspectASignedImage has a signature added to an image of ours.
func TestInspectASignedImage(t *testing.T) {
	name := filepath.Join(t.TempDir(), "hello.sif")
	if _, _, err := command(t, "build", "--no-cache", "--sif", "-o", name, "--from", "../../testdata/hello.export"); err != nil {
		t.Fatal(err)
	}
	c, err := sif.LoadContainerFromPath(name)
	if err != nil {
		t.Fatal(err)
	}
	envelope := `{"payloadType":"application/vnd.sylabs.sif-metadata+json","payload":"e30=","signatures":[{"keyid":"SHA256:0123","sig":"AAAA"}]}`
	if err := c.AddObject(sifObject(t, sif.DataSignature, envelope, sif.OptNoGroup(), sif.OptLinkedGroupID(1), sif.OptSignatureMetadata(crypto.SHA256, nil))); err != nil {
		t.Fatal(err)
	}
	if err := c.UnloadContainer(); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := command(t, "inspect", name)
	if want := "key SHA256:0123 (DSSE, of group 1), which is not verified"; err != nil || !strings.Contains(stdout, want) {
		t.Errorf("no %q in\n%s", want, stdout)
	}
}

func TestReferencesAreToldFromFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("host.example/dir", 0o777); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]bool{
		"app.sif": false, "./app.sif": false, "../app.sif": false, "/tmp/app.sif": false, "dir/app.sif": false, "": false,
		"host.example/dir": false, "host.example/dir/app.sif": false, "host.example/app": false,
		"registry.example.org/group/app:1": true, "localhost/app": true, "127.0.0.1:5000/app": true,
		"docker://alpine": true, "oras://host/app": true,
	} {
		if got := isReference(arg); got != want {
			t.Errorf("%q: %v, want %v", arg, got, want)
		}
	}
}
