package sif

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sylabs/sif/v2/pkg/sif"

	"github.com/nix2img/nix2img/squashfs"
)

// Sizes and places in a file of this package.
const (
	headerSize     = 128
	descriptorSize = 585
	tableOffset    = 4096
	tableEntries   = 48 // of which those that are not used are free for signatures, among others
	dataOffset     = tableOffset + tableEntries*descriptorSize
)

// PartitionOffset is where the root file system lies in a SIF of this package:
// the first multiple of 4096 after the header and 48 descriptors.
const PartitionOffset = (dataOffset + 4095) / 4096 * 4096

// magic tells a SIF from other files. It lies behind the launch script.
const magic = "SIF_MAGIC\x00"

// launchScript makes the kernel start the runtime when the file itself is executed.
// The format has room for 31 bytes.
const launchScript = "#!/usr/bin/env run-singularity\n"

// group is the one that all objects are in: a signature is for a group.
// The upper four bits are set in every number of a group.
const group = 0xf0000001

// header is at the beginning of the file. All of this is as in github.com/sylabs/sif, version 01 of the format.
type header struct {
	LaunchScript [32]byte
	Magic        [10]byte
	Version      [3]byte
	Arch         archCode
	UUID         [16]byte

	Created, Modified int64 // seconds since 1970

	DescriptorsFree, DescriptorsTotal int64
	TableOffset, TableSize            int64
	DataOffset, DataSize              int64 // the data go from the end of the table to that of the last object
}

// descriptor describes an object.
type descriptor struct {
	Type   sif.DataType
	Used   bool
	ID     uint32 // from 1 on
	Group  uint32
	Linked uint32 // object or group that it is about; 0: none

	Offset, Size int64
	// SizeWithPadding counts from the end of the object before.
	SizeWithPadding int64

	Created, Modified int64
	UID, GID          int64
	Name              [128]byte
	Extra             [384]byte // depends on the type
}

// archCode is an architecture as the format has it.
type archCode [3]byte

// archCodes has Go's names of architectures.
var archCodes = map[string]string{
	"386": "01", "amd64": "02", "arm": "03", "arm64": "04", "ppc64": "05", "ppc64le": "06",
	"mips": "07", "mipsle": "08", "mips64": "09", "mips64le": "10", "s390x": "11", "riscv64": "12", "loong64": "13",
}

// noArch is that of a file without a primary partition.
var noArch = archCode{'0', '0'}

// An ArchError is returned for an architecture that the format has no code for.
type ArchError struct {
	Arch string // Go's name
}

func (e *ArchError) Error() string {
	return fmt.Sprintf("sif: architecture %q: the format has no code for it", e.Arch)
}

func newArch(arch string) (code archCode, err error) {
	digits, ok := archCodes[arch]
	if !ok {
		return code, &ArchError{arch}
	}
	copy(code[:], digits)
	return code, nil
}

// newUUID makes a UUID of an image ID.
func newUUID(imageID string) (id [16]byte, err error) {
	digits, ok := strings.CutPrefix(imageID, "sha256:")
	digest, err := hex.DecodeString(digits)
	if !ok || err != nil || len(digest) != 32 {
		return id, fmt.Errorf("sif: image ID %q is not sha256: and 64 hexadecimal digits", imageID)
	}
	copy(id[:], digest)
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return id, nil
}

// A frame is all of a SIF but its first object, the root file system, which lies between head and tail.
type frame struct {
	header header
	table  [tableEntries]descriptor
	used   int
	root   int64 // bytes of the root file system
	tail   bytes.Buffer
}

// newFrame begins the frame of a root file system of so many bytes.
func newFrame(imageID string, created time.Time, root int64) (*frame, error) {
	id, err := newUUID(imageID)
	if err != nil {
		return nil, err
	}
	f := &frame{header: header{
		Arch:             noArch,
		UUID:             id,
		Created:          created.Unix(),
		Modified:         created.Unix(),
		DescriptorsTotal: tableEntries,
		TableOffset:      tableOffset,
		TableSize:        tableEntries * descriptorSize,
		DataOffset:       dataOffset,
	}, root: root}
	copy(f.header.LaunchScript[:], launchScript)
	copy(f.header.Magic[:], magic)
	copy(f.header.Version[:], "01")
	return f, nil
}

// addPartition makes the root file system the primary system partition.
func (f *frame) addPartition(arch string) error {
	code, err := newArch(arch)
	if err != nil {
		return err
	}
	f.header.Arch = code
	extra := binary.LittleEndian.AppendUint32(nil, uint32(sif.FsSquash))
	extra = binary.LittleEndian.AppendUint32(extra, uint32(sif.PartPrimSys))
	f.describe(sif.DataPartition, "squashfs", append(extra, code[:]...), f.root)
	return nil
}

// addLayer makes the root file system a blob of an OCI image.
func (f *frame) addLayer(digest v1.Hash) {
	f.describe(sif.DataOCIBlob, "", []byte(digest.String()), f.root)
}

// add adds an object after all others.
func (f *frame) add(t sif.DataType, name string, extra, data []byte) {
	f.describe(t, name, extra, int64(len(data)))
	f.tail.Write(data)
}

// describe describes the next object. The first is the root file system, which is aligned.
func (f *frame) describe(t sif.DataType, name string, extra []byte, size int64) {
	end := dataOffset + f.header.DataSize
	offset := end
	if f.used == 0 {
		offset = PartitionOffset
	}
	d := &f.table[f.used]
	f.used++
	*d = descriptor{
		Type: t, Used: true, ID: uint32(f.used), Group: group,
		Offset: offset, Size: size, SizeWithPadding: offset - end + size,
		Created: f.header.Created, Modified: f.header.Modified,
	}
	copy(d.Name[:], name)
	copy(d.Extra[:], extra)
	f.header.DataSize += d.SizeWithPadding
}

// size returns how many bytes the whole file has.
func (f *frame) size() int64 { return dataOffset + f.header.DataSize }

// head returns what comes before the root file system.
func (f *frame) head() []byte {
	f.header.DescriptorsFree = tableEntries - int64(f.used)
	b := make([]byte, PartitionOffset)
	// The buffer is large enough, and the types are of a fixed size: there is nothing to go wrong.
	binary.Encode(b, binary.LittleEndian, &f.header)
	binary.Encode(b[tableOffset:], binary.LittleEndian, &f.table)
	return b
}

// writeAround writes the frame to a file that has the root file system already.
// The header comes last: without it, a file is no SIF.
func (f *frame) writeAround(file squashfs.File) error {
	if _, err := file.WriteAt(f.tail.Bytes(), PartitionOffset+f.root); err != nil {
		return fmt.Errorf("sif: write: %w", err)
	}
	if _, err := file.WriteAt(f.head(), 0); err != nil {
		return fmt.Errorf("sif: write: %w", err)
	}
	return nil
}
