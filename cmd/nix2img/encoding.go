package main

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/internal/codec"
	"github.com/nix2img/nix2img/internal/spelling"
	"github.com/nix2img/nix2img/squashfs"
)

// encoding says how files are compressed, flag by flag.
type encoding struct {
	compression string
	blockSize   string
	jobs        int
}

func (e *encoding) addFlags(f *pflag.FlagSet) {
	f.StringVar(&e.compression, "compression", "", "`NAME[:LEVEL]` of the compression (default gzip)")
	f.StringVar(&e.blockSize, "block-size", "", "compress blocks of `SIZE`, 4K to 1M (default 128K, with zstd 256K)")
	f.IntVarP(&e.jobs, "jobs", "j", 0, "use `N` cores, which never changes the output (default: all)")
}

func (e *encoding) options() (*squashfs.Options, error) {
	opts := new(squashfs.Options)
	if e.jobs < 0 {
		return nil, usagef("--jobs %d: want 0 or more", e.jobs)
	}
	if e.compression != "" {
		var err error
		if opts.Compression, err = squashfs.ParseCompression(e.compression); err != nil {
			return nil, e.refuse(err)
		}
	}
	if e.blockSize != "" {
		n, err := parseSize(e.blockSize)
		if err != nil {
			return nil, usagef("--block-size: %w", err)
		}
		if n < squashfs.MinBlockSize || n > squashfs.MaxBlockSize || n&(n-1) != 0 {
			return nil, usagef("--block-size %s: want a power of two from 4K to 1M", e.blockSize)
		}
		opts.BlockSize = int(n)
	}
	return opts, nil
}

// layers is options for OCI layers.
func (e *encoding) layers() (opts *oci.Options, err error) {
	opts = new(oci.Options)
	if e.compression == "" {
		return opts, nil
	}
	if opts.Compression, opts.Level, err = codec.Parse(e.compression); err == nil {
		err = opts.Validate()
	}
	if err != nil {
		return nil, e.refuse(err)
	}
	return opts, nil
}

// codecNames are the names of all codecs.
var codecNames = []string{"gzip", "zstd", "zstd-go", "lz4", "xz", "none"}

// refuse says what is wrong with --compression.
func (e *encoding) refuse(err error) error {
	err = usagef("--compression: %w", err)
	name, _, _ := strings.Cut(e.compression, ":")
	if meant := spelling.Nearest(name, codecNames); meant != "" && !slices.Contains(codecNames, name) {
		return withHint(err, "did you mean --compression %s?", meant)
	}
	return err
}
