package sif

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sylabs/sif/v2/pkg/sif"
)

// input describes an object as another writer does.
func input(t testing.TB, kind sif.DataType, data string, opts ...sif.DescriptorInputOpt) sif.DescriptorInput {
	t.Helper()
	in, err := sif.NewDescriptorInput(kind, strings.NewReader(data), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// other returns a SIF that the sif library has written.
func other(t testing.TB, objects ...sif.DescriptorInput) *bytes.Reader {
	t.Helper()
	buf := sif.NewBuffer(nil)
	if _, err := sif.CreateContainer(buf, sif.OptCreateWithDescriptors(objects...)); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(buf.Bytes())
}

func TestFSOfAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "hello.sif")
	img := hello(t)
	if _, err := WriteFile(t.Context(), name, img, nil, nil); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fsys, err := f.FS()
	if err != nil {
		t.Fatal(err)
	}
	root := string(img.Closure.Roots()[0])
	if _, err := fs.Stat(fsys, root[1:]); err != nil {
		t.Error(err)
	}
	// Whoever gives a name as it is in the image is told what to write.
	for given, valid := range map[string]string{root: root[1:], "/": "."} {
		_, err := fsys.Open(given)
		if !errors.Is(err, fs.ErrInvalid) || !strings.HasSuffix(err.Error(), "this is "+valid) {
			t.Errorf("%s: %v", given, err)
		}
	}
}

func TestOpenFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenFile(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("text"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(text); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), text) {
		t.Errorf("text: %v", err)
	}
}

// TestFilesOfOthers opens files whose root file system cannot be read: all of their objects are there,
// and the error of FS says what there is instead.
func TestFilesOfOthers(t *testing.T) {
	partition := func(kind sif.FSType, use sif.PartType) sif.DescriptorInput {
		return input(t, sif.DataPartition, string(testPayload), sif.OptPartitionMetadata(kind, use, "amd64"))
	}
	for _, tt := range []struct {
		name    string
		objects []sif.DescriptorInput
		want    string
	}{
		{"nothing", nil, "no primary system partition"},
		{"a document", []sif.DescriptorInput{input(t, sif.DataGenericJSON, "{}")}, "no primary system partition"},
		{"data", []sif.DescriptorInput{partition(sif.FsSquash, sif.PartData)}, "no primary system partition"},
		{"an overlay", []sif.DescriptorInput{partition(sif.FsExt3, sif.PartOverlay)}, "no primary system partition"},
		{"ext3", []sif.DescriptorInput{partition(sif.FsExt3, sif.PartPrimSys)}, `of kind "Ext3"`},
		{"encrypted", []sif.DescriptorInput{partition(sif.FsEncryptedSquashfs, sif.PartPrimSys)}, `of kind "Encrypted squashfs"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := other(t, tt.objects...)
			checkNoFS(t, r, tt.want)
			f, err := Open(r)
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Objects) != len(tt.objects) {
				t.Errorf("%d objects, want %d", len(f.Objects), len(tt.objects))
			}
		})
	}

	f, err := Open(other(t, partition(sif.FsSquash, sif.PartPrimSys), partition(sif.FsExt3, sif.PartOverlay)))
	if err != nil {
		t.Fatal(err)
	}
	if p := f.Objects[1].Partition; p == nil || *p != (Partition{"Ext3", "Overlay", "amd64"}) {
		t.Errorf("overlay: %+v", p)
	}
	var no *NoFSError
	if _, err := f.FS(); err == nil || errors.As(err, &no) { // it is no squashfs, although it says so
		t.Errorf("damaged: %v", err)
	}
}

// TestOCISIFsOfOthers has layers that are not supported: all are listed.
func TestOCISIFsOfOthers(t *testing.T) {
	const tar = types.OCILayer
	const ext3 = "application/vnd.sylabs.image.layer.v1.ext3"
	for _, tt := range []struct {
		name   string
		layers []types.MediaType
		want   string
	}{
		{"no layers", nil, "0 OCI layers"},
		{"tar", []types.MediaType{tar}, `of type "application/vnd.oci.image.layer.v1.tar+gzip"`},
		{"several", []types.MediaType{squashfsLayer, squashfsLayer, squashfsLayer}, "3 OCI layers"},
		{"with an overlay", []types.MediaType{squashfsLayer, ext3}, "2 OCI layers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := newFrame(testID, time.Unix(1, 0), int64(len(testPayload)))
			if err != nil {
				t.Fatal(err)
			}
			root, size, _ := v1.SHA256(bytes.NewReader(testPayload))
			f.addLayer(root)
			config, _ := f.addJSON(sif.DataOCIBlob, types.OCIConfigJSON, &v1.ConfigFile{Architecture: "arm64"})
			m := &v1.Manifest{Config: config}
			for _, kind := range tt.layers {
				m.Layers = append(m.Layers, v1.Descriptor{MediaType: kind, Size: size, Digest: root})
			}
			manifest, _ := f.addJSON(sif.DataOCIBlob, types.OCIManifestSchema1, m)
			f.addJSON(sif.DataOCIRootIndex, types.OCIImageIndex, &v1.IndexManifest{Manifests: []v1.Descriptor{manifest}})
			file := &memory{make([]byte, PartitionOffset)}
			file.WriteAt(testPayload, PartitionOffset)
			if err := f.writeAround(file); err != nil {
				t.Fatal(err)
			}
			checkNoFS(t, file, tt.want)
			opened, err := Open(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(opened.Layers) != len(tt.layers) || opened.Arch != "arm64" {
				t.Errorf("%+v", opened.Info)
			}
			for i, l := range opened.Layers {
				if l != (Layer{string(tt.layers[i]), root.String(), Extent{PartitionOffset, size}}) {
					t.Errorf("layer %d: %+v", i, l)
				}
			}
		})
	}
}

func TestSignaturesAreNamed(t *testing.T) {
	fingerprint := bytes.Repeat([]byte{0xab}, 20)
	f, err := Open(other(t,
		input(t, sif.DataSignature, "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n", sif.OptNoGroup(), sif.OptLinkedGroupID(1),
			sif.OptSignatureMetadata(crypto.SHA256, fingerprint)),
		input(t, sif.DataSignature, `{"payloadType":"application/vnd.sylabs.sif-metadata+json","payload":"","signatures":[{"keyid":"SHA256:x","sig":""},{"sig":""}]}`,
			sif.OptNoGroup(), sif.OptLinkedID(1), sif.OptSignatureMetadata(crypto.SHA256, nil)),
		input(t, sif.DataSignature, "{", sif.OptNoGroup(), sif.OptSignatureMetadata(crypto.MD5, nil))))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Signature{
		{Format: "OpenPGP", Fingerprint: strings.Repeat("ab", 20), Group: 1},
		{Format: "DSSE", KeyIDs: []string{"SHA256:x"}, Object: 1},
		{},
	} {
		got := f.Objects[i].Signature
		if got == nil || got.Format != want.Format || got.Fingerprint != want.Fingerprint ||
			strings.Join(got.KeyIDs, " ") != strings.Join(want.KeyIDs, " ") || got.Group != want.Group || got.Object != want.Object {
			t.Errorf("signature %d: %+v, want %+v", i+1, got, want)
		}
	}
}

// countingReader counts the bytes that are read.
type countingReader struct {
	io.ReaderAt
	n int64
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	r.n += int64(n)
	return n, err
}

// TestManySignaturesAreBounded has a full table of signatures that all are one large document.
func TestManySignaturesAreBounded(t *testing.T) {
	const n = 10_000
	buf := sif.NewBuffer(nil)
	c, err := sif.CreateContainer(buf, sif.OptCreateWithDescriptorCapacity(n), sif.OptCreateWithDescriptors(
		input(t, sif.DataSignature, `{"x":"`+strings.Repeat("y", 32<<20), sif.OptNoGroup(), sif.OptSignatureMetadata(crypto.SHA256, nil))))
	if err != nil {
		t.Fatal(err)
	}
	data := buf.Bytes()
	first := data[c.DescriptorsOffset():][:descriptorSize]
	for i := int64(1); i < n; i++ {
		copy(data[c.DescriptorsOffset()+i*descriptorSize:], first)
	}
	r := &countingReader{ReaderAt: bytes.NewReader(data)}
	f, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Objects) != n || r.n > 64<<20 {
		t.Errorf("%d objects, %d bytes read", len(f.Objects), r.n)
	}
}
