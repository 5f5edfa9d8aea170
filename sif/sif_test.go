package sif

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sylabs/sif/v2/pkg/sif"
)

// memory is a [squashfs.File] in memory.
type memory struct{ data []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.data) {
		m.data = append(m.data, make([]byte, end-len(m.data))...)
	}
	return copy(m.data[off:], p), nil
}

func (m *memory) Truncate(size int64) error {
	if size > int64(len(m.data)) {
		m.data = append(m.data, make([]byte, size-int64(len(m.data)))...)
	}
	m.data = m.data[:size]
	return nil
}

const testID = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

const testRecord = `{
  "schema": 1,
  "nix2img": "0.1.0",
  "storeDir": "/nix/store",
  "roots": ["/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60"],
  "architecture": "amd64",
  "config": {"created": "1970-01-01T00:00:01Z"},
  "objects": [{
    "path": "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60",
    "narHash": "sha256-4xSFe7s0BypyHfTlbtrd8dc3MJMPpMuFgg2pFYsRoFs=",
    "narSize": 120
  }],
  "imageID": "` + testID + `"
}
`

// testSIF makes a SIF with a partition of 8192 bytes that is no squashfs.
func testSIF(t testing.TB) *memory { return testSIFOf(t, "amd64", time.Unix(1, 0)) }

func testSIFOf(t testing.TB, arch string, created time.Time) *memory {
	t.Helper()
	m := &memory{make([]byte, PartitionOffset)}
	m.WriteAt(testPayload, PartitionOffset)
	f, err := newFrame(testID, created, int64(len(testPayload)))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.addPartition(arch); err != nil {
		t.Fatal(err)
	}
	f.add(sif.DataGenericJSON, RecordName, nil, []byte(testRecord))
	f.add(sif.DataGenericJSON, inspectName, nil, []byte(`{"type":"container"}`))
	if err := f.writeAround(m); err != nil {
		t.Fatal(err)
	}
	if f.size() != int64(len(m.data)) {
		t.Fatalf("size %d, wrote %d", f.size(), len(m.data))
	}
	if !bytes.Equal(m.data[PartitionOffset:][:len(testPayload)], testPayload) {
		t.Fatal("the partition was changed")
	}
	return m
}

var testPayload = bytes.Repeat([]byte("hsqs...."), 1024)

// TestGolden pins every byte that is not the squashfs's.
func TestGolden(t *testing.T) {
	const want = "f519ee288b016d9d7e09065bd6320b6e972b794b7ef87e9f254714084e408205"
	sum := sha256.Sum256(testSIF(t).data)
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("sha256 = %s, want %s\n(if this is meant, it is an Output entry of CHANGELOG.md)", got, want)
	}
}

func TestHeader(t *testing.T) {
	m := testSIF(t)
	if got := string(m.data[:32]); got != "#!/usr/bin/env run-singularity\n\x00" {
		t.Errorf("launch script %q", got)
	}
	if got := string(m.data[32:48]); got != "SIF_MAGIC\x0001\x0002\x00" {
		t.Errorf("magic, version and architecture %q", got)
	}
	if got := hex.EncodeToString(m.data[48:64]); got != "001122334455"+"8677"+"8899aabbccddeeff" {
		t.Errorf("UUID %s", got)
	}
	for _, off := range []int{64, 72, 4096 + 41, 4096 + 49} {
		if got := binary.LittleEndian.Uint64(m.data[off:]); got != 1 {
			t.Errorf("time at offset %d is %d, want 1", off, got)
		}
	}
}

// TestBytesAreThoseOfTheLibrary has the sif library write the same objects.
func TestBytesAreThoseOfTheLibrary(t *testing.T) {
	write := func(objects ...sif.DescriptorInput) []byte {
		t.Helper()
		buf := sif.NewBuffer(nil)
		_, err := sif.CreateContainer(buf,
			sif.OptCreateWithLaunchScript(launchScript),
			sif.OptCreateWithID("00112233-4455-8677-8899-aabbccddeeff"),
			sif.OptCreateWithTime(time.Unix(1, 0)),
			sif.OptCreateWithDescriptors(objects...))
		if err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	native := write(
		input(t, sif.DataPartition, string(testPayload), sif.OptObjectName("squashfs"),
			sif.OptPartitionMetadata(sif.FsSquash, sif.PartPrimSys, "amd64")),
		input(t, sif.DataGenericJSON, testRecord, sif.OptObjectName(RecordName)),
		input(t, sif.DataGenericJSON, `{"type":"container"}`, sif.OptObjectName(inspectName)))
	if !bytes.Equal(testSIF(t).data, native) {
		t.Error("SIF: other bytes")
	}

	m, res := ociSIF(t, nil)
	c, err := sif.LoadContainer(sif.NewBuffer(m.data))
	if err != nil {
		t.Fatal(err)
	}
	var objects []sif.DescriptorInput
	c.WithDescriptors(func(d sif.Descriptor) bool {
		data, err := d.GetData()
		if err != nil {
			t.Fatal(err)
		}
		align := 0
		if d.ID() == 1 {
			align = 4096
		}
		objects = append(objects, input(t, d.DataType(), string(data), sif.OptObjectAlignment(align)))
		return false
	})
	id, err := newUUID(res.ID)
	if err != nil {
		t.Fatal(err)
	}
	oci := write(objects...)
	copy(oci[48:], id[:])
	if !bytes.Equal(m.data, oci) {
		t.Error("OCI-SIF: other bytes")
	}
}

// TestTheLibraryAdds adds an object to a finished file, as signing does, and takes it away again.
func TestTheLibraryAdds(t *testing.T) {
	m := testSIF(t)
	c, err := sif.LoadContainer(sif.NewBuffer(bytes.Clone(m.data)))
	if err != nil {
		t.Fatal(err)
	}
	in := input(t, sif.DataSignature, "signed",
		sif.OptNoGroup(), sif.OptLinkedGroupID(1), sif.OptSignatureMetadata(crypto.SHA256, bytes.Repeat([]byte{7}, 20)))
	if err := c.AddObject(in, sif.OptAddWithTime(time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	d, err := c.GetDescriptor(sif.WithDataType(sif.DataSignature))
	if err != nil {
		t.Fatal(err)
	}
	if d.ID() != 4 || d.Offset() != int64(len(m.data)) || c.DescriptorsFree() != tableEntries-4 {
		t.Errorf("object %d at %d, %d descriptors are free", d.ID(), d.Offset(), c.DescriptorsFree())
	}
}

// TestLargePartition has a partition whose size does not fit into 32 bits.
func TestLargePartition(t *testing.T) {
	f, err := newFrame(testID, time.Unix(1, 0), 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.addPartition("amd64"); err != nil {
		t.Fatal(err)
	}
	if want := int64(PartitionOffset + 1<<40); f.size() != want {
		t.Errorf("size %d, want %d", f.size(), want)
	}
	c, err := sif.LoadContainer(sif.NewBuffer(f.head()))
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.GetDescriptor(sif.WithPartitionType(sif.PartPrimSys))
	if err != nil {
		t.Fatal(err)
	}
	if d.Offset() != PartitionOffset || d.Size() != 1<<40 {
		t.Errorf("partition: %d bytes at %d", d.Size(), d.Offset())
	}
}

func TestOpenGivesBackWhatWasWritten(t *testing.T) {
	created := time.Date(2025, 5, 17, 12, 0, 0, 0, time.UTC)
	for arch := range archCodes {
		m := testSIFOf(t, arch, created)
		info, err := Open(m)
		if err != nil {
			t.Fatal(err)
		}
		if info.Arch != arch || !info.Created.Equal(created) || info.FSType != "Squashfs" ||
			info.Partition != (Extent{PartitionOffset, 8192}) || len(info.Objects) != 3 {
			t.Errorf("%s: %+v", arch, info)
		}
		if info.UUID != "00112233-4455-8677-8899-aabbccddeeff" {
			t.Errorf("UUID %s", info.UUID)
		}
		if info.Record == nil || info.Record.ImageID != testID || info.RecordAt.Size != int64(len(testRecord)) {
			t.Errorf("record at %v: %+v", info.RecordAt, info.Record)
		}
		if o := info.Objects[2]; o.Type != "JSON.Generic" || o.Name != inspectName {
			t.Errorf("object 3: %+v", o)
		}
	}
}

func TestBadImageID(t *testing.T) {
	for _, id := range []string{"", "sha256:", "sha512:" + testID[7:], testID + "00", testID[:70] + "x"} {
		if _, err := newUUID(id); err == nil {
			t.Errorf("%q: no error", id)
		}
	}
}

func TestOpenDamaged(t *testing.T) {
	put := func(off int, n int64) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[off:], uint64(n))
			return b
		}
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	for _, tt := range []struct {
		name string
		edit func([]byte) []byte
		want string
	}{
		{"empty", cut(0), "not a SIF"},
		{"other file", func(b []byte) []byte { b[32] = 'x'; return b }, "not a SIF"},
		{"other version", func(b []byte) []byte { b[43] = '2'; return b }, "version"},
		{"cut in the header", cut(100), "unexpected EOF"},
		{"cut in the descriptors", cut(5000), "descriptors: 28080 bytes at offset 4096: unexpected EOF"},
		{"cut in the partition", cut(PartitionOffset + 4096), "object 1 (FS): 8192 bytes at offset 32768: unexpected EOF"},
		{"negative count", put(88, -1), "-1 descriptors"},
		{"huge count", put(88, math.MaxInt64), "descriptors are not between"},
		{"wrong table size", put(104, 1), "48 descriptors in 1 bytes"},
		{"table in the header", put(96, 8), "descriptors at offset 8"},
		{"table behind the end", put(96, math.MaxInt64), "impossible range"},
		{"negative offset", put(4096+17, -1), "impossible range"},
		{"huge size", put(4096+25, math.MaxInt64), "impossible range"},
		{"size behind the end", put(4096+25, 1<<40), "unexpected EOF"},
		{"record is no JSON", func(b []byte) []byte { b[PartitionOffset+8192] = '['; return b }, "read record"},
		{"record cut short", put(4096+585+25, 8), "read record"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := testSIF(t)
			m.data = tt.edit(m.data)
			_, err := Open(m)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
			if tt.want == "not a SIF" && !errors.Is(err, ErrFormat) {
				t.Errorf("%v is not ErrFormat", err)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	data := testSIF(f).data
	f.Add(data[:128], data[4096:4096+2*585])
	f.Add(data[:48], []byte(nil))
	f.Add([]byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, header, table []byte) {
		file := bytes.Clone(data)
		copy(file[:4096], header)
		copy(file[4096:PartitionOffset], table)
		info, err := Open(bytes.NewReader(file))
		if err != nil {
			return
		}
		info.FS()
		for _, o := range info.Objects {
			section := io.NewSectionReader(bytes.NewReader(file), o.Offset, o.Size)
			if n, _ := io.Copy(io.Discard, section); n != o.Size {
				t.Errorf("object %d has %d of %d bytes", o.ID, n, o.Size)
			}
		}
	})
}
