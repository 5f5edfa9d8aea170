// Floor measures what no writer of images can save: it reads the files of store paths,
// computes a SHA-256 of the files of each path, compresses their blocks, and throws the result away.
//
//	go run ./internal/floor -compression zstd:3 -block-size 262144 /nix/store/...
//
// Blocks are cut as package squashfs does: full blocks, and tails packed for each path.
// It prints the wall time and the bytes; CPU time is for time(1) to tell.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nix2img/nix2img/internal/codec"
	"github.com/nix2img/nix2img/internal/par"
)

func main() {
	compression := flag.String("compression", "gzip", "`NAME[:LEVEL]`")
	blockSize := flag.Int("block-size", 128<<10, "bytes")
	workers := flag.Int("j", 0, "goroutines that compress (default: all cores)")
	flag.Parse()
	name, level, err := codec.Parse(*compression)
	if err != nil {
		log.Fatal(err)
	}
	c, err := codec.Lookup(name)
	if err != nil {
		log.Fatal(err)
	}

	start := time.Now()
	var in, out int64
	blocks := sync.Pool{New: func() any {
		b := make([]byte, 0, *blockSize+*blockSize/128+512) // as libzstd wants it
		return &b
	}}
	idle := make(chan codec.Compressor, par.Workers(*workers))
	compress := func(_ context.Context, raw *[]byte) (int, error) {
		defer blocks.Put(raw)
		var comp codec.Compressor
		select {
		case comp = <-idle:
		default:
			var err error
			if comp, err = c.NewCompressor(level, *blockSize); err != nil {
				return 0, err
			}
		}
		dst := blocks.Get().(*[]byte)
		defer blocks.Put(dst)
		p, err := comp.Compress((*dst)[:0], *raw)
		idle <- comp
		if p == nil {
			return len(*raw), err
		}
		return len(p), err
	}
	n := par.Workers(*workers)
	for size, err := range par.Map(context.Background(), n, 4*n, cut(flag.Args(), *blockSize, &blocks, &in), compress) {
		if err != nil {
			log.Fatal(err)
		}
		out += int64(size)
	}
	took := time.Since(start).Seconds()
	fmt.Printf("%d bytes became %d in %.1f s, %.0f MB/s\n", in, out, took, float64(in)/took/1e6)
}

var errStop = errors.New("no more blocks are wanted")

// cut gives the blocks of all files below paths.
func cut(paths []string, blockSize int, blocks *sync.Pool, total *int64) iter.Seq2[*[]byte, error] {
	return func(yield func(*[]byte, error) bool) {
		for _, path := range paths {
			hash := sha256.New()
			tails := blocks.Get().(*[]byte)
			*tails = (*tails)[:0]
			err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				f, err := os.Open(name)
				if err != nil {
					return err
				}
				defer f.Close()
				for {
					b := blocks.Get().(*[]byte)
					n, err := io.ReadFull(f, (*b)[:blockSize])
					*b = (*b)[:n]
					*total += int64(n)
					hash.Write(*b)
					if err == nil {
						if !yield(b, nil) {
							return errStop
						}
						continue
					}
					if err != io.EOF && err != io.ErrUnexpectedEOF {
						return err
					}
					if len(*tails)+n > blockSize {
						full := tails
						tails = blocks.Get().(*[]byte)
						*tails = (*tails)[:0]
						if !yield(full, nil) {
							return errStop
						}
					}
					*tails = append(*tails, *b...)
					blocks.Put(b)
					return nil
				}
			})
			if err == errStop {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(tails, nil) {
				return
			}
		}
	}
}
