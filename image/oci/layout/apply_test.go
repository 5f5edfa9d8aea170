package layout_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/nix2img/nix2img/image/oci/layout"
)

const tarType = "application/vnd.oci.image.layer.v1.tar"

// listing describes all files of an image: names, and contents or targets.
func listing(t testing.TB, files *layout.Files) (lines []string) {
	t.Helper()
	fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			t.Error(err)
		case d.Type() == fs.ModeSymlink:
			lines = append(lines, name+" -> "+must(files.ReadLink(name)))
		case d.Type().IsRegular():
			lines = append(lines, name+": "+string(must(fs.ReadFile(files, name))))
		case name != ".":
			lines = append(lines, name+"/")
		}
		return nil
	})
	return lines
}

// Layers lie on each other as unpackers have it.
func TestLayersOnLayers(t *testing.T) {
	dir, file, link, hard := byte(tar.TypeDir), byte(tar.TypeReg), byte(tar.TypeSymlink), byte(tar.TypeLink)
	for name, c := range map[string]struct {
		lower, upper []entry
		want         string
	}{
		"a deleted file beside a hard link to it": {
			[]entry{{file, "secret", "x"}},
			[]entry{{hard, "kept", "secret"}, {file, ".wh.secret", ""}},
			"kept: x",
		},
		"an opaque directory beside a hard link to what was in it": {
			[]entry{{file, "d/secret", "x"}},
			[]entry{{hard, "d/kept", "d/secret"}, {file, "d/.wh..wh..opq", ""}},
			"d/, d/kept: x",
		},
		"a hard link that was there": {
			[]entry{{file, "a", "x"}, {hard, "b", "a"}},
			[]entry{{file, ".wh.a", ""}},
			"b: x",
		},
		"a whiteout does not mean its own layer": {
			[]entry{{file, "a", "old"}},
			[]entry{{file, "a", "new"}, {file, ".wh.a", ""}},
			"a: new",
		},
		"nor what its layer has below": {
			[]entry{{file, "d/e/old", "x"}, {file, "d/f/old", "x"}},
			[]entry{{file, "d/e/new", "y"}, {file, ".wh.d", ""}},
			"d/, d/e/, d/e/new: y",
		},
		"an opaque directory hides what is deep below": {
			[]entry{{file, "d/e/old", "x"}, {file, "d/f/old", "x"}},
			[]entry{{dir, "d/e/", ""}, {file, "d/e/new", "y"}, {file, "d/.wh..wh..opq", ""}},
			"d/, d/e/, d/e/new: y",
		},
		"everything is hidden": {
			[]entry{{file, "d/old", "x"}, {file, "old", "x"}},
			[]entry{{file, "new", "y"}, {file, ".wh..wh..opq", ""}},
			"new: y",
		},
		"through a link to a directory": {
			[]entry{{file, "usr/bin/old", "x"}, {file, "usr/bin/gone", "x"}, {link, "bin", "usr/bin"}},
			[]entry{{file, "bin/new", "y"}, {file, "bin/.wh.gone", ""}, {hard, "bin/again", "bin/old"}},
			"bin -> usr/bin, usr/, usr/bin/, usr/bin/again: x, usr/bin/new: y, usr/bin/old: x",
		},
		"through links that lead out": {
			[]entry{{dir, "usr/lib/", ""}, {link, "lib", "/../../usr/lib"}, {link, "usr/lib/up", "../../../.."}},
			[]entry{{file, "lib/a", "x"}, {file, "lib/up/b", "x"}},
			"b: x, lib -> /../../usr/lib, usr/, usr/lib/, usr/lib/a: x, usr/lib/up -> ../../../..",
		},
		"a directory takes the place of a link to one": {
			[]entry{{file, "usr/bin/a", "x"}, {link, "bin", "usr/bin"}},
			[]entry{{file, "bin/b", "y"}, {dir, "bin/", ""}, {file, "bin/c", "z"}},
			"bin/, bin/c: z, usr/, usr/bin/, usr/bin/a: x, usr/bin/b: y",
		},
		"a file takes the place of a directory": {
			[]entry{{file, "d/a", "x"}},
			[]entry{{file, "d/b", "y"}, {file, "d", "z"}},
			"d: z",
		},
		"a global header says nothing": {
			[]entry{{tar.TypeXGlobalHeader, "", ""}, {file, "a", "x"}},
			[]entry{{tar.TypeXGlobalHeader, "", ""}, {file, "b", "y"}},
			"a: x, b: y",
		},
		"a store of links, as aufs had it": {
			[]entry{{file, ".wh..wh.plnk/1.2", "x"}, {hard, "a", ".wh..wh.plnk/1.2"}, {file, ".wh..wh.aufs", ""}},
			[]entry{{hard, "b", "a"}},
			"a: x, b: x",
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := openFiles(t, storeLayers(t, tarLayer(t, c.lower...), tarLayer(t, c.upper...)))
			if got := strings.Join(listing(t, files), ", "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// compressed makes layers of an archive, as it is and in both compressed forms.
func compressed(t testing.TB, archive []byte) map[string]v1.Layer {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	must(w.Write(archive))
	w.Close()
	z := must(zstd.NewWriter(nil)).EncodeAll(archive, nil)
	return map[string]v1.Layer{
		"plain": static.NewLayer(archive, tarType),
		"gzip":  otherDiffID{static.NewLayer(packed.Bytes(), tarType+"+gzip"), archive},
		"zstd":  otherDiffID{static.NewLayer(z, tarType+"+zstd"), archive},
	}
}

// otherDiffID is a layer that is compressed.
type otherDiffID struct {
	v1.Layer
	archive []byte
}

func (l otherDiffID) DiffID() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(l.archive))
	return h, err
}

// eachWay opens an image of one layer in all forms, as an index and unpacked.
func eachWay(t *testing.T, archive []byte, check func(t *testing.T, files *layout.Files)) {
	t.Helper()
	for name, l := range compressed(t, archive) {
		for _, unpacked := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " unpacked:", unpacked), func(t *testing.T) {
				s := must(layout.Open(storeLayers(t, l), nil))
				defer s.Close()
				var files *layout.Files
				if unpacked {
					files = must(s.Unpack(t.Context(), t.TempDir()))
				} else {
					files = must(s.Files(t.Context()))
				}
				defer files.Close()
				check(t, files)
			})
		}
	}
}

// Contents are read in any order, in part and at the same time, whether layers are unpacked or not.
func TestContentsAreReadWhenAskedFor(t *testing.T) {
	var entries []entry
	for i := range 30 {
		entries = append(entries, entry{tar.TypeReg, fmt.Sprintf("f%02d", i), strings.Repeat(fmt.Sprintf("%02d,", i), i*1000)})
	}
	eachWay(t, tarBytes(t, entries...), func(t *testing.T, files *layout.Files) {
		for _, e := range slices.Backward(entries) {
			f := must(files.Open(e.name))
			if half := len(e.data) / 2; half > 0 {
				p := make([]byte, half)
				if _, err := f.(io.ReaderAt).ReadAt(p, int64(half)); err != nil || string(p) != e.data[half:2*half] {
					t.Errorf("%s: other bytes from %d on: %v", e.name, half, err)
				}
			}
			if got := must(io.ReadAll(f)); string(got) != e.data {
				t.Errorf("%s: %d bytes, or other ones than %d", e.name, len(got), len(e.data))
			}
			f.Close()
		}
		done := make(chan string)
		for _, e := range entries {
			go func() {
				data, err := fs.ReadFile(files, e.name)
				if err == nil && string(data) == e.data {
					done <- ""
				} else {
					done <- fmt.Sprint(e.name, ": ", err)
				}
			}()
		}
		for range entries {
			if s := <-done; s != "" {
				t.Error(s)
			}
		}
	})
}

// Holes stay holes: GNU tar's three forms of them.
func TestSparseFiles(t *testing.T) {
	for _, format := range []string{"--format=gnu", "--format=posix --sparse-version=0.0", "--format=posix --sparse-version=0.1", "--format=posix --sparse-version=1.0"} {
		dir := t.TempDir()
		out, err := exec.Command("sh", "-c", "cd "+dir+` && for f in a b c; do printf $f >$f; truncate -s 5M $f; printf end >>$f; printf plain >$f.txt; done
			truncate -s 100G huge; tar --sparse -cf - `+format+` a b a.txt c b.txt huge c.txt`).Output()
		if err != nil {
			t.Skipf("no GNU tar: %v", err)
		}
		eachWay(t, out, func(t *testing.T, files *layout.Files) {
			for _, name := range []string{"c", "a", "b"} {
				want := name + strings.Repeat("\x00", 5<<20-1) + "end"
				if got := must(fs.ReadFile(files, name)); string(got) != want {
					t.Errorf("%s: %s: %d bytes, or other ones than %d", format, name, len(got), len(want))
				}
				if got := must(fs.ReadFile(files, name+".txt")); string(got) != "plain" {
					t.Errorf("%s: %s.txt is %q", format, name, got)
				}
			}
			if info := must(files.Stat("huge")); info.Size() != 100<<30 {
				t.Errorf("%s: huge has %d bytes", format, info.Size())
			}
		})
	}
}

// endless is a layer of many entries, made as they are read.
func manyEntries(t testing.TB, n int, header func(i int) *tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range n {
		if err := w.WriteHeader(header(i)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

// What is made to take all memory, disk or time is refused.
func TestLayersThatAreRefused(t *testing.T) {
	dirs := func(n int) []byte {
		return manyEntries(t, n, func(i int) *tar.Header {
			return &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, Name: strings.Repeat("d/", i+1)}
		})
	}
	zeros := must(zstd.NewWriter(nil)).EncodeAll(make([]byte, 128<<20), nil)
	bomb := static.NewLayer(bytes.Repeat(zeros, 10), tarType+"+zstd")
	for name, c := range map[string]struct {
		layer v1.Layer
		want  string
	}{
		"5,000 folders in each other": {static.NewLayer(dirs(2500), tarType), "a name of 4097 bytes"},
		"a long name":                 {tarLayer(t, entry{tar.TypeReg, "d/" + strings.Repeat("x", 256), ""}), "a name of 256 bytes between slashes"},
		"a long link":                 {tarLayer(t, entry{tar.TypeSymlink, "l", strings.Repeat("x/", 2049)}), "a link to a name of 4098 bytes"},
		"a bomb":                      {bomb, "not unpacked"},
		"a layer of another kind":     {static.NewLayer([]byte("x"), "application/vnd.sylabs.image.layer.v1.squashfs"), "not supported"},
		"a loop of links":             {tarLayer(t, entry{tar.TypeSymlink, "l", "l"}, entry{tar.TypeReg, "l/x", ""}), "too many levels"},
	} {
		err := openError(t, c.layer)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// Through links, directories could be made deeper than any name is long.
func TestDepthIsBounded(t *testing.T) {
	var layers []v1.Layer
	deep := strings.Repeat("d/", 1500)
	layers = append(layers, tarLayer(t, entry{tar.TypeDir, deep, ""}, entry{tar.TypeSymlink, "l1", deep}))
	for i := 1; i < 3; i++ {
		layers = append(layers, tarLayer(t, entry{tar.TypeDir, fmt.Sprintf("l%d/%s", i, deep), ""}, entry{tar.TypeSymlink, fmt.Sprintf("l%d", i+1), fmt.Sprintf("l%d/%s", i, deep)}))
	}
	if err := openError(t, layers...); err == nil || !strings.Contains(err.Error(), "directories in each other") {
		t.Errorf("got %v", err)
	}
}

// openError returns what is wrong with an image.
func openError(t testing.TB, layers ...v1.Layer) error {
	t.Helper()
	s, err := layout.Open(storeLayers(t, layers...), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	files, err := s.Files(t.Context())
	if err == nil {
		files.Close()
	}
	return err
}

// Many files are no reason to wait, in whatever order they come.
func TestManyFiles(t *testing.T) {
	archive := manyEntries(t, 80_000, func(i int) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, Name: fmt.Sprintf("d/%d", i*7919%80_000)}
	})
	files := openFiles(t, storeLayers(t, static.NewLayer(archive, tarType)))
	if n := len(must(files.ReadDir("d"))); n != 80_000 {
		t.Errorf("%d files", n)
	}
}

func FuzzLayer(f *testing.F) {
	f.Add(tarBytes(f, entry{tar.TypeReg, "a/b", "x"}, entry{tar.TypeLink, "c", "a/b"}), tarBytes(f, entry{tar.TypeReg, "a/.wh.b", ""}))
	f.Add(tarBytes(f, entry{tar.TypeSymlink, "bin", "usr/bin"}), tarBytes(f, entry{tar.TypeReg, "bin/x", "y"}, entry{tar.TypeReg, ".wh..wh..opq", ""}))
	f.Add(tarBytes(f, entry{tar.TypeDir, "d/", ""}, entry{tar.TypeXGlobalHeader, "", ""}), []byte{})
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		s, err := layout.Open(storeLayers(t, static.NewLayer(lower, tarType), static.NewLayer(upper, tarType)), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		files, err := s.Files(t.Context())
		if err != nil {
			return
		}
		defer files.Close()
		fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if f, err := files.Open(name); err == nil {
					io.Copy(io.Discard, io.LimitReader(f, 1<<20))
					f.Close()
				}
			}
			return err
		})
	})
}
