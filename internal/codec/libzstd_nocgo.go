//go:build !cgo

package codec

import "errors"

var libzstd = &Codec{
	Name: "zstd", ID: ZSTD, Module: "github.com/DataDog/zstd",
	Min: 1, Max: 22, Default: 3, newCompressor: newLibzstd,
	options: zstdOptions,
}

// Another library would give other bytes, so none is put in its place.
func newLibzstd(int, int) (Compressor, error) {
	return nil, errors.New("zstd is libzstd, which this binary was built without (cgo is off); zstd-go is pure Go")
}
