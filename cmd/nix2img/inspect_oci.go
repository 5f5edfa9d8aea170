package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/internal/codec"
	"github.com/nix2img/nix2img/internal/ctxio"
)

// layerInfo is a layer of an OCI image.
type layerInfo struct {
	Digest    string `json:"digest,omitzero"` // docker save has none
	DiffID    string `json:"diffID,omitzero"`
	MediaType string `json:"mediaType,omitzero"`
	Size      int64  `json:"size,omitzero"` // bytes as it is stored
}

// isReference reports whether an argument is an image in a registry, and not a file.
func isReference(arg string) bool {
	if strings.HasPrefix(arg, orasScheme) || strings.HasPrefix(arg, dockerScheme) {
		return true
	}
	host, _, found := strings.Cut(arg, "/")
	if !found || strings.Trim(host, ".") == "" || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return false
	}
	if _, err := os.Lstat(arg); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err := os.Lstat(filepath.Dir(arg)) // if that is there, it is a file that is missing
	return err != nil
}

// inspectStored inspects an image in a layout or in an archive.
func (i *inspector) inspectStored(ctx context.Context, name string) (*inspection, error) {
	s, err := openStored(name, i.arch)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	in := &inspection{File: name, Format: "docker-archive"}
	if s.Manifest != nil {
		in.Format, in.Digest = "oci-archive", s.Digest.String()
	}
	file, _ := layout.Split(name)
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		in.Format = "oci"
	}
	return in, in.describe(ctx, s.Manifest, s.Config, s.OpenLayer)
}

// inspectReference inspects an image in a registry.
func (i *inspector) inspectReference(ctx context.Context, name string) (*inspection, error) {
	ref, _, err := i.remote.parse(name)
	if err != nil {
		return nil, err
	}
	rt, err := i.remote.runtime(i.ui)
	if err != nil {
		return nil, err
	}
	platform := v1.Platform{OS: "linux", Architecture: i.arch}
	if platform.Architecture == "" {
		platform.Architecture = runtime.GOARCH
	}
	i.ui.busyf("asking %s", ref.Context().RegistryStr())
	defer i.ui.status("")
	img, digest, err := registry.Pull(ctx, ref, platform, rt)
	if err != nil {
		return nil, err
	}
	in := &inspection{File: name, Format: "registry", Digest: digest.DigestStr()}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	if _, _, err := registry.SIFLayer(img); err == nil {
		in.Format, in.programs = "registry-sif", haveDefault
		in.addLayers(m, nil)
		return in, nil
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	return in, in.describe(ctx, m, config, func(n int) (io.ReadCloser, error) { return layers[n].Compressed() })
}

func (in *inspection) addLayers(m *v1.Manifest, diffIDs []v1.Hash) {
	in.Layers = make([]layerInfo, max(len(m.Layers), len(diffIDs)))
	for i, l := range m.Layers {
		in.Layers[i] = layerInfo{Digest: l.Digest.String(), MediaType: string(l.MediaType), Size: l.Size}
		in.Size += l.Size
	}
	for i, id := range diffIDs {
		in.Layers[i].DiffID = id.String()
	}
}

// describe describes an OCI image: layers, configuration, and the build record, which is in the uppermost layer.
// m is nil if there is no manifest.
func (in *inspection) describe(ctx context.Context, m *v1.Manifest, c *v1.ConfigFile, open func(layer int) (io.ReadCloser, error)) error {
	if m == nil {
		m = new(v1.Manifest)
	} else if n := len(c.RootFS.DiffIDs); n != len(m.Layers) {
		return fmt.Errorf("inspect %s: the manifest has %s, and the configuration %d", in.File, plural(len(m.Layers), "layer"), n)
	}
	in.addLayers(m, c.RootFS.DiffIDs)
	in.Architecture, in.Created, in.User = c.Architecture, c.Created.Time.UTC(), c.Config.User
	in.programs = needName
	if len(c.Config.Entrypoint)+len(c.Config.Cmd) > 0 {
		in.programs = haveDefault
	}
	if n := len(in.Layers); n > 0 && isOurs(c) {
		r, err := open(n - 1)
		if err != nil {
			return fmt.Errorf("inspect %s: %w", in.File, reason(err))
		}
		defer r.Close()
		record, err := recordInLayer(ctxio.Reader(ctx, r))
		if err != nil {
			return fmt.Errorf("inspect %s: layer %s: %w", in.File, in.Layers[n-1].DiffID, err)
		}
		if in.claim(record); record != nil {
			return nil
		}
	}
	in.Config = &image.Config{
		Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd, Env: c.Config.Env,
		WorkingDir: c.Config.WorkingDir, Labels: c.Config.Labels, Created: in.Created,
	}
	return nil
}

// isOurs reports whether the history of an image says that nix2img has made its uppermost layer.
func isOurs(c *v1.ConfigFile) bool {
	n := len(c.History)
	return n > 0 && strings.HasPrefix(c.History[n-1].CreatedBy, "nix2img: ")
}

// recordInLayer returns the build record in a layer, or nil.
// It is among the first files, so that of a layer without it, the beginning is enough.
func recordInLayer(r io.Reader) (*image.Record, error) {
	const most = 256 << 20
	plain, err := codec.Decompress(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	limited := &io.LimitedReader{R: plain, N: most}
	for t := tar.NewReader(limited); ; {
		h, err := t.Next()
		if err == io.EOF || err != nil && limited.N == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg && path.Clean(h.Name) == image.RecordPath {
			return image.ReadRecord(t)
		}
	}
}
