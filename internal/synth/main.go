// Synth makes a tree that is shaped like a closure: for benchmarks where there is no Nix.
//
//	go run ./internal/synth -bytes 1000000000 DIR
//
// DIR gets a store, nix/store, and DIR/registration describes it as nix-store --dump-db does.
// The same arguments give the same tree.
//
// In sizes and contents it follows Python environments: many small sources that look like text,
// their byte code, and a few large libraries that compress to a third and have most of the bytes.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
)

func main() {
	bytes := flag.Int64("bytes", 500e6, "about how much the files hold")
	paths := flag.Int("paths", 200, "store paths")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: synth [-bytes N] [-paths N] DIR")
	}
	if err := write(flag.Arg(0), *bytes, *paths); err != nil {
		log.Fatal(err)
	}
}

func write(dir string, bytes int64, paths int) error {
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2))}
	store := filepath.Join(dir, "nix/store")
	sizes := g.sizes(bytes, paths)
	var objects []closure.Object
	for i, size := range sizes {
		const digits = "0123456789abcdfghijklmnpqrsvwxyz"
		digest := make([]byte, 32)
		for j := range digest {
			digest[j] = digits[g.IntN(len(digits))]
		}
		base := fmt.Sprintf("%s-package%d-1.0", digest, i)
		if err := g.object(filepath.Join(store, base), size); err != nil {
			return err
		}
		// The newest refers to all, so that it is their root.
		o := closure.Object{Path: closure.Path("/nix/store/" + base)}
		for _, other := range objects {
			if i == paths-1 || g.IntN(20) == 0 {
				o.References = append(o.References, other.Path)
			}
		}
		var err error
		if o.NARHash, o.NARSize, err = narhash.Sum(context.Background(), os.DirFS(store), base); err != nil {
			return err
		}
		objects = append(objects, o)
	}
	var list strings.Builder
	for _, o := range objects {
		fmt.Fprintf(&list, "%s\n%x\n%d\n\n%d\n", o.Path, o.NARHash[:], o.NARSize, len(o.References))
		for _, r := range o.References {
			fmt.Fprintln(&list, r)
		}
	}
	return os.WriteFile(filepath.Join(dir, "registration"), []byte(list.String()), 0o644)
}

type generator struct {
	*rand.Rand
	buf []byte
}

// sizes shares bytes among n objects, log-normally: the largest have nearly all.
func (g *generator) sizes(bytes int64, n int) []int64 {
	weights, sum := make([]float64, n), 0.0
	for i := range weights {
		weights[i] = math.Exp(2.2 * g.NormFloat64())
		sum += weights[i]
	}
	sizes := make([]int64, n)
	for i, w := range weights {
		sizes[i] = int64(w / sum * float64(bytes))
	}
	return sizes
}

// object writes the files of a store path.
func (g *generator) object(dir string, size int64) error {
	for i := 0; size > 0; i++ {
		name, contents := fmt.Sprintf("lib/python3.11/site-packages/module%d/file%d.py", i/40, i), g.text
		n := int64(math.Exp(8.5 + 1.3*g.NormFloat64()))
		switch {
		case size > 4<<20 && i%10 == 0:
			name, contents = fmt.Sprintf("lib/libpart%d.so.1", i), g.code
			n = size / 2
		case i%2 == 1:
			name, contents = fmt.Sprintf("lib/python3.11/site-packages/module%d/__pycache__/file%d.pyc", i/40, i-1), g.code
		}
		n = min(max(n, 1), size)
		size -= n
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := g.file(name, n, contents); err != nil {
			return err
		}
	}
	return os.MkdirAll(dir, 0o755)
}

func (g *generator) file(name string, size int64, contents func([]byte) []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for size > 0 {
		g.buf = contents(g.buf[:0])
		n := min(size, int64(len(g.buf)))
		if _, err := f.Write(g.buf[:n]); err != nil {
			return err
		}
		size -= n
	}
	return f.Close()
}

var words = strings.Fields("self return if not None import from def class in for else raise value name data index result " +
	"type list array dtype shape axis tensor config options kwargs args path open read write error True False len range")

// text appends lines of words.
func (g *generator) text(b []byte) []byte {
	for range 200 {
		b = append(b, "        "[:4*g.IntN(3)]...)
		for range 2 + g.IntN(8) {
			b = append(b, words[g.IntN(len(words))]...)
			b = append(b, " .,(=_:)"[g.IntN(8)])
		}
		b = append(b, '\n')
	}
	return b
}

// code appends what compresses like machine code: short runs that come again, and numbers.
func (g *generator) code(b []byte) []byte {
	for range 4000 {
		if len(b) > 64 && g.IntN(3) > 0 {
			at, n := g.IntN(len(b)-32), 4+g.IntN(20)
			b = append(b, b[at:at+n]...)
			continue
		}
		b = append(b, 0x48, 0x8b, byte(g.IntN(256)), byte(g.IntN(64)), byte(g.IntN(256)), 0, 0)
	}
	return b
}
