package sif

import (
	"bytes"
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
func testSIF(t testing.TB, edit func(*layout)) *memory {
	t.Helper()
	payload := bytes.Repeat([]byte("hsqs...."), 1024)
	m := new(memory)
	m.WriteAt(payload, PartitionOffset)
	l := &layout{
		imageID:   testID,
		arch:      "amd64",
		partition: int64(len(payload)),
		objects:   []object{{RecordName, []byte(testRecord)}, {inspectName, []byte(`{"type":"container"}`)}},
	}
	if edit != nil {
		edit(l)
	}
	size, err := create(m, l)
	if err != nil {
		t.Fatal(err)
	}
	if size != int64(len(m.data)) {
		t.Fatalf("create says %d bytes, wrote %d", size, len(m.data))
	}
	if !bytes.Equal(m.data[PartitionOffset:][:len(payload)], payload) {
		t.Fatal("the partition was changed")
	}
	return m
}

// TestGolden pins every byte that is not the squashfs's.
func TestGolden(t *testing.T) {
	const want = "f519ee288b016d9d7e09065bd6320b6e972b794b7ef87e9f254714084e408205"
	sum := sha256.Sum256(testSIF(t, nil).data)
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("sha256 = %s, want %s\n(if this is meant, it is an Output entry of CHANGELOG.md)", got, want)
	}
}

func TestHeader(t *testing.T) {
	m := testSIF(t, nil)
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

// TestPartitionIsWrittenInPlace guards what [inPlace] rests on:
// the library asks a source that has a WriteTo for nothing but its size.
func TestPartitionIsWrittenInPlace(t *testing.T) {
	w := &writes{memory: new(memory), from: PartitionOffset, to: PartitionOffset + 1<<40}
	size, err := create(w, &layout{imageID: testID, arch: "amd64", partition: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(PartitionOffset + 1<<40); size != want {
		t.Errorf("size %d, want %d", size, want)
	}
	if w.hits > 0 {
		t.Errorf("%d writes into the partition", w.hits)
	}
	info, err := sif.LoadContainer(readOnly{w.memory})
	if err != nil {
		t.Fatal(err)
	}
	d, err := info.GetDescriptor(sif.WithPartitionType(sif.PartPrimSys))
	if err != nil {
		t.Fatal(err)
	}
	if d.Offset() != PartitionOffset || d.Size() != 1<<40 {
		t.Errorf("partition: %d bytes at %d", d.Size(), d.Offset())
	}
}

// writes counts writes between two offsets.
type writes struct {
	*memory
	from, to int64
	hits     int
}

func (w *writes) WriteAt(p []byte, off int64) (int, error) {
	if off < w.to && w.from < off+int64(len(p)) {
		w.hits++
		return len(p), nil
	}
	return w.memory.WriteAt(p, off)
}

func TestReadGivesBackWhatWasWritten(t *testing.T) {
	created := time.Date(2025, 5, 17, 12, 0, 0, 0, time.UTC)
	for _, arch := range []string{"386", "amd64", "arm64", "ppc64le", "s390x", "riscv64"} {
		m := testSIF(t, func(l *layout) { l.arch, l.created = arch, created })
		info, err := Read(m)
		if err != nil {
			t.Fatal(err)
		}
		if info.Arch != arch || !info.Created.Equal(created) || info.FS != "Squashfs" ||
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

func TestUnknownArchitecture(t *testing.T) {
	_, err := create(new(memory), &layout{imageID: testID, arch: "z80"})
	var ae *ArchError
	if !errors.As(err, &ae) || ae.Arch != "z80" {
		t.Errorf("err = %v", err)
	}
}

func TestBadImageID(t *testing.T) {
	for _, id := range []string{"", "sha256:", "sha512:" + testID[7:], testID + "00", testID[:70] + "x"} {
		if _, err := newUUID(id); err == nil {
			t.Errorf("%q: no error", id)
		}
	}
}

func TestReadDamaged(t *testing.T) {
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
			m := testSIF(t, nil)
			m.data = tt.edit(m.data)
			_, err := Read(m)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
			if tt.want == "not a SIF" && !errors.Is(err, ErrFormat) {
				t.Errorf("%v is not ErrFormat", err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	data := testSIF(f, nil).data
	f.Add(data[:128], data[4096:4096+2*585])
	f.Add(data[:48], []byte(nil))
	f.Add([]byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, header, table []byte) {
		file := bytes.Clone(data)
		copy(file[:4096], header)
		copy(file[4096:PartitionOffset], table)
		info, err := Read(bytes.NewReader(file))
		if err != nil {
			return
		}
		for _, o := range info.Objects {
			section := io.NewSectionReader(bytes.NewReader(file), o.Offset, o.Size)
			if n, _ := io.Copy(io.Discard, section); n != o.Size {
				t.Errorf("object %d has %d of %d bytes", o.ID, n, o.Size)
			}
		}
	})
}
