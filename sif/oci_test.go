package sif

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sylabs/sif/v2/pkg/sif"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
)

var ociOptions = &Options{OCI: true}

func ociSIF(t testing.TB, rt *image.Runtime) (*memory, *Result) {
	t.Helper()
	m := new(memory)
	res, err := Write(t.Context(), m, hello(t), ociOptions, rt)
	if err != nil {
		t.Fatal(err)
	}
	if res.Size != int64(len(m.data)) {
		t.Errorf("size %d, wrote %d", res.Size, len(m.data))
	}
	return m, res
}

// blob returns a blob by its digest, which is computed again.
func blob(t *testing.T, c *sif.FileImage, d v1.Descriptor) []byte {
	t.Helper()
	o, err := c.GetDescriptor(sif.WithDataType(sif.DataOCIBlob), sif.WithOCIBlobDigest(d.Digest))
	if err != nil {
		t.Fatal(err)
	}
	data, err := o.GetData()
	if err != nil {
		t.Fatal(err)
	}
	if got, size, _ := v1.SHA256(bytes.NewReader(data)); got != d.Digest || size != d.Size {
		t.Errorf("blob %s of %d bytes is %s of %d", d.Digest, d.Size, got, size)
	}
	return data
}

// TestOCIStructure goes from the root index to the layer, as a runtime does.
func TestOCIStructure(t *testing.T) {
	m, res := ociSIF(t, nil)
	c, err := sif.LoadContainer(readOnly{m}, sif.OptLoadWithCloseOnUnload(false))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	c.WithDescriptors(func(d sif.Descriptor) bool {
		kinds = append(kinds, d.DataType().String())
		if d.CreatedAt().Unix() != 1 || d.ModifiedAt().Unix() != 1 {
			t.Errorf("object %d is of %s", d.ID(), d.CreatedAt())
		}
		return false
	})
	if got := strings.Join(kinds, " "); got != "OCI.Blob OCI.Blob OCI.Blob OCI.RootIndex" {
		t.Errorf("objects %s", got)
	}
	if c.CreatedAt().Unix() != 1 || c.ModifiedAt().Unix() != 1 {
		t.Errorf("created %s, modified %s", c.CreatedAt(), c.ModifiedAt())
	}

	root, err := c.GetDescriptor(sif.WithDataType(sif.DataOCIRootIndex))
	if err != nil {
		t.Fatal(err)
	}
	index, err := v1.ParseIndexManifest(root.GetReader())
	if err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 || index.MediaType != types.OCIImageIndex || index.Manifests[0].MediaType != types.OCIManifestSchema1 ||
		index.Manifests[0].Platform.String() != "linux/"+res.Record.Architecture {
		t.Fatalf("index %+v", index)
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(blob(t, c, index.Manifests[0])))
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != squashfsLayer || manifest.MediaType != types.OCIManifestSchema1 {
		t.Fatalf("manifest %+v", manifest)
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(blob(t, c, manifest.Config)))
	if err != nil {
		t.Fatal(err)
	}
	want := res.Record.Config
	if config.OS != "linux" || config.Architecture != res.Record.Architecture || config.Created.Unix() != 1 ||
		strings.Join(config.Config.Env, " ") != strings.Join(want.Env, " ") ||
		strings.Join(config.Config.Entrypoint, " ") != strings.Join(want.Entrypoint, " ") || len(want.Entrypoint) == 0 ||
		config.Config.Labels["org.example.x"] != "<y>" ||
		len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("configuration %+v", config)
	}

	// The layer has the bytes of the squashfs that any other output has.
	plain := new(memory)
	native, err := Write(t.Context(), plain, hello(t), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	layer := blob(t, c, manifest.Layers[0])
	if !bytes.Equal(layer, plain.data[native.Partition.Offset:][:native.Partition.Size]) {
		t.Error("the layer is not the squashfs of the SIF")
	}
	if native.ID != res.ID || native.Partition != res.Partition {
		t.Errorf("image %s at %v, that of the SIF is %s at %v", res.ID, res.Partition, native.ID, native.Partition)
	}
}

func TestOCISameBytes(t *testing.T) {
	want, _ := ociSIF(t, nil)
	for _, workers := range []int{1, 2, 7} {
		if got, _ := ociSIF(t, &image.Runtime{Workers: workers}); !bytes.Equal(got.data, want.data) {
			t.Errorf("other bytes with %d workers", workers)
		}
	}
	cache, err := cache.Open(t.TempDir(), cache.Own)
	if err != nil {
		t.Fatal(err)
	}
	for _, temperature := range []string{"cold", "warm"} {
		var out bytes.Buffer
		if _, err := Stream(t.Context(), &out, hello(t), ociOptions, &image.Runtime{Cache: cache}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want.data) {
			t.Errorf("%s: the stream has other bytes", temperature)
		}
	}
}

func TestOCIOpen(t *testing.T) {
	m, res := ociSIF(t, nil)
	info, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	if info.Partition != res.Partition || info.FSType != "Squashfs" || info.Arch != res.Record.Architecture || info.Record != nil {
		t.Errorf("read %+v, wrote %+v", info, res)
	}
	if _, err := info.FS(); err != nil {
		t.Error(err)
	}
}

// TestOCIOpenOther reads OCI-SIFs of which no root file system can be had.
func TestOCIOpenOther(t *testing.T) {
	for _, test := range []struct {
		name, old, new, want string
	}{
		{"no JSON", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index`, `["schemaVersion":2,"mediaType":"application/vnd.oci.image.index`, "root index"},
		{"no layers", `"layers":[`, `"others":[`, "0 OCI layers"},
		{"a layer of another kind", `layer.v1.squashfs"`, `layer.v1.squashed"`, "layer.v1.squashed"},
		{"no manifest", `"manifests":[`, `"otherwise":[`, "0 images"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, _ := ociSIF(t, nil)
			// The digests of the descriptors stay what they were, and lead to the changed blobs.
			if n := bytes.Count(m.data, []byte(test.old)); n != 1 || len(test.old) != len(test.new) {
				t.Fatalf("%q is there %d times", test.old, n)
			}
			m.data = bytes.Replace(m.data, []byte(test.old), []byte(test.new), 1)
			checkNoFS(t, m, test.want)
		})
	}
}

// checkNoFS checks that a file can be opened and its objects listed, and that the error of FS says why there is none.
func checkNoFS(t *testing.T, r io.ReaderAt, want string) {
	t.Helper()
	f, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.FS()
	var no *NoFSError
	if !errors.As(err, &no) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestOCIFullDisk(t *testing.T) {
	_, res := ociSIF(t, nil)
	for _, limit := range []int64{PartitionOffset + 5000, res.Partition.Offset + res.Partition.Size, res.Size - 1} {
		if _, err := Write(t.Context(), &full{new(memory), limit}, hello(t), ociOptions, nil); err == nil {
			t.Errorf("no error on a disk of %d bytes", limit)
		}
	}
}

func FuzzOpenOCI(f *testing.F) {
	m, res := ociSIF(f, nil)
	end := res.Partition.Offset + res.Partition.Size
	f.Add(m.data[4096:4096+5*585], m.data[end:])
	var short []byte
	for _, v := range []any{&v1.IndexManifest{Manifests: []v1.Descriptor{{}}}, &v1.Manifest{}, &v1.ConfigFile{}} {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		short = append(short, data...)
	}
	f.Add([]byte(nil), short)
	f.Fuzz(func(t *testing.T, table, blobs []byte) {
		file := bytes.Clone(m.data)
		copy(file[4096:PartitionOffset], table)
		copy(file[end:], blobs)
		info, err := Open(bytes.NewReader(file))
		if err != nil {
			return
		}
		info.FS()
		if p := info.Partition; p.Offset < 0 || p.Size < 0 || p.Offset+p.Size > int64(len(file)) {
			t.Errorf("partition %+v in a file of %d bytes", p, len(file))
		}
	})
}
