// Package codec compresses and expands single blocks, by the name of the codec.
//
// Every block stands alone: no dictionary, no state between blocks,
// so that the bytes of a block follow from its contents, the codec, its level
// and the version of the library behind it.
package codec

import (
	"encoding/binary"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
)

// ID is the number by which a squashfs superblock names a format of compression.
type ID uint16

// The formats that SquashFS 4.0 knows.
const (
	GZIP ID = 1 // zlib streams, in truth
	LZMA ID = 2
	LZO  ID = 3
	XZ   ID = 4
	LZ4  ID = 5
	ZSTD ID = 6
)

func (id ID) String() string {
	if names := [...]string{1: "gzip", "lzma", "lzo", "xz", "lz4", "zstd"}; 0 < id && int(id) < len(names) {
		return names[id]
	}
	return fmt.Sprintf("compressor %d", uint16(id))
}

// A Codec compresses blocks of one format with one library.
type Codec struct {
	Name          string // as users write it
	ID            ID
	Module        string // import path of the library's module; empty: none needed
	Min, Max      int    // legal levels; both 0: there are none
	Default       int    // default level
	newCompressor func(level, blockSize int) (Compressor, error)
	options       func(level, blockSize int) []uint32
}

// Version returns the version of the codec's library that is in this program.
// It is empty for a codec without a library.
func (c *Codec) Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == c.Module {
				for m.Replace != nil {
					m = m.Replace
				}
				return m.Version
			}
		}
	}
	// The binaries of tests do not list what they are built of.
	return pinned[c.Module]
}

// pinned has the versions of go.mod.
var pinned = map[string]string{
	"github.com/DataDog/zstd":       "v1.5.7",
	"github.com/klauspost/compress": "v1.20.3",
	"github.com/pierrec/lz4/v4":     "v4.1.33",
	"github.com/ulikunitz/xz":       "v0.5.17",
}

// A Compressor compresses one block at a time. It must not be shared by goroutines.
type Compressor interface {
	// Compress appends the compressed form of src to dst[:0], if that is smaller than src.
	// Otherwise it returns nil: the block is better stored.
	// The result may use the memory of dst, whose capacity should be that of a block.
	Compress(dst, src []byte) ([]byte, error)
}

// Parse reads "NAME" or "NAME:LEVEL".
func Parse(s string) (name string, level int, err error) {
	name, num, found := strings.Cut(s, ":")
	c, err := Lookup(name)
	if err != nil {
		return "", 0, err
	}
	if !found {
		return name, 0, nil
	}
	level, err = strconv.Atoi(num)
	if err != nil || level == 0 {
		return "", 0, fmt.Errorf("level %q is not a number other than 0", num)
	}
	return name, level, c.checkLevel(level)
}

func (c *Codec) checkLevel(level int) error {
	switch {
	case c.Min == 0 && c.Max == 0:
		return fmt.Errorf("%s has no levels", c.Name)
	case level < c.Min || level > c.Max:
		return fmt.Errorf("%s has levels %d to %d, not %d", c.Name, c.Min, c.Max, level)
	}
	return nil
}

// Lookup finds a codec by its name.
func Lookup(name string) (*Codec, error) {
	var names []string
	for _, c := range codecs {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	return nil, fmt.Errorf("no codec %q (there are %s)", name, strings.Join(names, ", "))
}

// SquashfsOptions returns what an image says of its codec behind the superblock, or nil for nothing.
func (c *Codec) SquashfsOptions(level, blockSize int) []byte {
	if c.options == nil {
		return nil
	}
	var b []byte
	for _, v := range c.options(level, blockSize) {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// NewCompressor returns a compressor for blocks of at most blockSize bytes.
// Level 0 means the default.
func (c *Codec) NewCompressor(level, blockSize int) (Compressor, error) {
	if level == 0 {
		level = c.Default
	} else if err := c.checkLevel(level); err != nil {
		return nil, err
	}
	return c.newCompressor(level, blockSize)
}
