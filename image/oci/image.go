package oci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci/layering"
	"github.com/nix2img/nix2img/image/oci/layout"
)

// PathsAnnotation is the annotation of a layer that lists its store objects: base names, separated by spaces.
const PathsAnnotation = "org.nix2img.layer.paths"

// Options is what decides the bytes, beside the image.
type Options struct {
	// Compression is the codec: gzip, zstd, zstd-go or none. Empty means gzip, which everybody reads.
	Compression string
	// Level is the codec's. Zero means its default, but 6 for gzip.
	Level int
	// Layering says which store objects share a layer.
	Layering layering.Options
	// User is who runs programs: "USER", "UID", "UID:GID" and so on. Empty means root.
	User string
	// ExposedPorts are those at which the image's programs listen: "8080/tcp".
	ExposedPorts []string
	// Annotations are put into the manifest.
	Annotations map[string]string
}

// Validate checks the compression.
func (o *Options) Validate() error {
	if o == nil {
		return nil
	}
	_, err := newCoding(o.Compression, o.Level)
	return err
}

// An Image is a container image in the format of OCI: a v1.Image whose layers have been compressed,
// or are known from earlier builds. It must be closed.
type Image struct {
	Record *image.Record // the build record, as it is in the image
	Notes  []string      // what the user should know of the image; see [image.Resolved]

	blobs    *blobs
	layers   []*Layer
	config   *v1.ConfigFile
	manifest *v1.Manifest
	// The bytes of config and manifest.
	rawConfig, rawManifest []byte
}

var _ v1.Image = (*Image)(nil)

// Build makes the layers of an image. A nil opts or rt means the zero value.
// ctx is also that of reading layers.
//
// Files whose NAR hash is not the closure's are a [*closure.HashError];
// among the other errors are [*WhiteoutError] and [*SourceError].
func Build(ctx context.Context, img *image.Image, opts *Options, rt *image.Runtime) (*Image, error) {
	return buildAt(ctx, "", img, opts, rt)
}

// BuildLayout makes an image and puts it into the OCI layout in dir under a tag, as [layout.Write] does.
// Layers are written there when they are made, and nowhere else. The image must be closed.
func BuildLayout(ctx context.Context, dir, tag string, img *image.Image, opts *Options, rt *image.Runtime) (*Image, *layout.Written, error) {
	built, err := buildAt(ctx, dir, img, opts, rt)
	if err != nil {
		return nil, nil, err
	}
	written, err := layout.Write(ctx, dir, tag, built)
	if err != nil {
		built.Close()
		return nil, nil, err
	}
	return built, written, nil
}

// buildAt is Build for an image that goes into the layout in dir, or nowhere in particular if that is empty.
func buildAt(ctx context.Context, dir string, img *image.Image, opts *Options, rt *image.Runtime) (*Image, error) {
	if opts == nil {
		opts = new(Options)
	}
	if rt == nil {
		rt = new(image.Runtime)
	}
	if img == nil || img.Closure == nil || img.Closure.Files == nil {
		return nil, fmt.Errorf("oci: %w", closure.ErrNoFiles)
	}
	c, err := newCoding(opts.Compression, opts.Level)
	if err != nil {
		return nil, err
	}
	var place *layout.Place
	if dir != "" {
		if place, err = layout.OpenPlace(dir); err != nil {
			return nil, err
		}
	}
	s, err := newBlobs(rt, c, img.Closure, img.GPU, place)
	if err != nil {
		return nil, err
	}
	built, err := s.build(ctx, img, opts)
	for errors.Is(err, errDropped) {
		built, err = s.build(ctx, img, opts)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return built, nil
}

func (s *blobs) build(ctx context.Context, img *image.Image, opts *Options) (*Image, error) {
	layers, units, err := s.layers(ctx, opts)
	if err != nil {
		return nil, err
	}
	b := &Image{blobs: s, layers: layers}
	if err := s.adopt(ctx, unitsOf(img.Closure.Objects(), units)); err != nil {
		return nil, err
	}
	remote, err := s.anyRemote(ctx, units)
	if err != nil {
		return nil, err
	}
	// Objects that have been compressed are not looked at in the store any more.
	files := s.overlay(ctx, img.Closure, units)
	unknown := s.unknown(img.Closure.Objects())
	todo := b.layers
	if remote || len(unknown) > 0 && !s.rt.AcceptFirst {
		// Facts, and all that is to be known of what comes over a network, are found while objects are compressed.
		s.observe = len(unknown) > 0
		if !remote {
			if err := s.rehearse(ctx, img, files); err != nil {
				return nil, err
			}
		}
		if err := s.makeLayers(ctx, todo); err != nil {
			return nil, err
		}
		todo, files = nil, s.overlay(ctx, img.Closure, units)
	}
	resolved, base, err := s.settle(ctx, img, files)
	if err != nil {
		return nil, err
	}
	b.Record, b.Notes = base.record, resolved.Notes
	last := &Layer{ctx: ctx, s: s, units: []*unit{{source: source{files: base.files, root: ".", name: "."}}}}
	b.layers = append(b.layers, last)
	if err := s.makeLayers(ctx, append(todo, last)); err != nil {
		return nil, err
	}
	if err := s.survey.Prove(unknown...); err != nil {
		return nil, err
	}
	return b, b.describe(resolved, opts)
}

// rehearse settles all but what depends on facts, for the errors: better now than when everything has been compressed.
func (s *blobs) rehearse(ctx context.Context, img *image.Image, files fs.FS) error {
	rest := *img
	rest.GPU, rest.MPI = image.GPU{NV: image.No, ROCm: image.No}, image.No
	_, _, err := s.resolve(ctx, &rest, new(image.Runtime), files)
	return err
}

// settle finds the facts that are missing, and resolves the image.
func (s *blobs) settle(ctx context.Context, img *image.Image, files fs.FS) (_ *image.Resolved, _ *baseFiles, err error) {
	rt := *s.rt
	if rt.Facts == nil && len(s.survey.Inspectors) > 0 {
		if rt.Facts, err = s.survey.Complete(ctx, img.Closure.Objects(), files); err != nil {
			return nil, nil, err
		}
	}
	return s.resolve(ctx, img, &rt, files)
}

// unknown returns those objects about which inspectors have something to find.
func (s *blobs) unknown(objects []closure.Object) []closure.Object {
	return slices.DeleteFunc(slices.Clone(objects), s.survey.Knows)
}

// anyRemote reports whether there is a unit that comes over a network and has no blob.
func (s *blobs) anyRemote(ctx context.Context, units map[string]*unit) (bool, error) {
	f, ok := s.closure.Files.(closure.Fetcher)
	if !ok {
		return false, nil
	}
	for _, u := range units {
		if remote, err := s.isRemote(ctx, f, u); remote || err != nil {
			return remote, err
		}
	}
	return false, nil
}

// baseFiles are all that is not from the store, and what they say of the image.
type baseFiles struct {
	files  fs.FS
	record *image.Record
}

// resolve settles what depends on the closure's files.
func (s *blobs) resolve(ctx context.Context, img *image.Image, rt *image.Runtime, files fs.FS) (*image.Resolved, *baseFiles, error) {
	c := *img.Closure
	c.Files = files
	settled := *img
	settled.Closure = &c
	resolved, err := settled.Resolve(ctx, rt)
	if err != nil {
		return nil, nil, err
	}
	record, err := resolved.Record()
	if err != nil {
		return nil, nil, err
	}
	record.OCI = s.coding.record()
	base, err := resolved.Base(ctx, record)
	return resolved, &baseFiles{base, record}, err
}

// layers divides the closure into layers of units, which it also returns by base name.
func (s *blobs) layers(ctx context.Context, opts *Options) (layers []*Layer, units map[string]*unit, err error) {
	groups, err := opts.Layering.Plan(s.closure)
	if err != nil {
		return nil, nil, err
	}
	units = make(map[string]*unit)
	for _, g := range groups {
		l := &Layer{ctx: ctx, s: s}
		for _, o := range g {
			u := &unit{source{files: s.closure.Files, root: o.Path.Base(), name: strings.TrimPrefix(string(o.Path), "/")}, &o}
			l.units = append(l.units, u)
			units[u.root] = u
		}
		layers = append(layers, l)
	}
	return layers, units, nil
}

// unitsOf gives the units of some objects.
func unitsOf(objects []closure.Object, units map[string]*unit) iter.Seq[*unit] {
	return func(yield func(*unit) bool) {
		for _, o := range objects {
			if !yield(units[o.Path.Base()]) {
				return
			}
		}
	}
}

// describe makes configuration and manifest.
func (b *Image) describe(r *image.Resolved, opts *Options) (err error) {
	created := v1.Time{Time: r.Config.Created.UTC()}
	b.config = &v1.ConfigFile{
		Architecture: r.Arch,
		OS:           "linux",
		Created:      created,
		Config: v1.Config{
			Entrypoint: r.Config.Entrypoint,
			Cmd:        r.Config.Cmd,
			Env:        r.OCIEnv(),
			WorkingDir: r.Config.WorkingDir,
			Labels:     r.Config.Labels,
			User:       opts.User,
		},
		RootFS: v1.RootFS{Type: "layers"},
	}
	for _, port := range opts.ExposedPorts {
		if b.config.Config.ExposedPorts == nil {
			b.config.Config.ExposedPorts = make(map[string]struct{})
		}
		b.config.Config.ExposedPorts[port] = struct{}{}
	}
	b.manifest = &v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Annotations: annotations(r, opts)}
	for _, l := range b.layers {
		d, err := l.Descriptor()
		if err != nil {
			return err
		}
		b.manifest.Layers = append(b.manifest.Layers, *d)
		b.config.RootFS.DiffIDs = append(b.config.RootFS.DiffIDs, l.summary.DiffID)
		b.config.History = append(b.config.History, v1.History{Created: created, CreatedBy: "nix2img: " + l.describe()})
	}
	if b.rawConfig, err = json.Marshal(b.config); err != nil {
		return fmt.Errorf("oci: configuration: %w", err)
	}
	digest, size, err := v1.SHA256(bytes.NewReader(b.rawConfig))
	if err != nil {
		return err
	}
	b.manifest.Config = v1.Descriptor{MediaType: types.OCIConfigJSON, Size: size, Digest: digest}
	b.rawManifest, err = json.Marshal(b.manifest)
	return err
}

// annotations are those that are asked for, and the labels that the OCI specification defines as annotations.
func annotations(r *image.Resolved, opts *Options) map[string]string {
	all := make(map[string]string)
	for key, value := range r.Config.Labels {
		if strings.HasPrefix(key, "org.opencontainers.image.") {
			all[key] = value
		}
	}
	maps.Copy(all, opts.Annotations)
	if len(all) == 0 {
		return nil
	}
	return all
}

// describe says in a few words what is in the layer.
func (l *Layer) describe() string {
	if l.units[0].object == nil {
		return "base files"
	}
	largest := slices.MaxFunc(l.units, func(a, b *unit) int { return cmp.Compare(a.object.NARSize, b.object.NARSize) })
	if len(l.units) == 1 {
		return largest.object.Path.Name()
	}
	return fmt.Sprintf("%d paths, largest: %s", len(l.units), largest.object.Path.Name())
}

// Descriptor describes the layer as the manifest does.
func (l *Layer) Descriptor() (*v1.Descriptor, error) {
	if l.s == nil {
		return nil, errNotBuilt
	}
	mediaType, err := l.MediaType()
	d := &v1.Descriptor{MediaType: mediaType, Size: l.summary.Size, Digest: l.summary.Digest}
	if paths := l.Paths(); paths != nil {
		names := make([]string, len(paths))
		for i, p := range paths {
			names[i] = p.Base()
		}
		d.Annotations = map[string]string{PathsAnnotation: strings.Join(names, " ")}
	}
	return d, err
}

// Paths returns the paths of the store objects in the layer; none for the base files.
func (l *Layer) Paths() (paths []closure.Path) {
	for _, u := range l.units {
		if u.object != nil {
			paths = append(paths, u.object.Path)
		}
	}
	return paths
}

// Close removes the image's temporary files, also those of [BuildLayout] that have got no name. Then its layers can be read no more.
func (b *Image) Close() error {
	if b.blobs == nil {
		return nil
	}
	return b.blobs.Close()
}

// errNotBuilt is the error of an image or layer that Build has not made.
var errNotBuilt = errors.New("oci: not by Build")

// Layers returns the layers, the lowest first. The last one has the base files.
func (b *Image) Layers() ([]v1.Layer, error) {
	var list []v1.Layer
	for _, l := range b.layers {
		list = append(list, l)
	}
	return list, nil
}

// MediaType returns that of an OCI manifest.
func (b *Image) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Size returns the size of the manifest.
func (b *Image) Size() (int64, error) { return int64(len(b.rawManifest)), nil }

// ConfigName returns the digest of the configuration.
func (b *Image) ConfigName() (v1.Hash, error) {
	if b.manifest == nil {
		return v1.Hash{}, errNotBuilt
	}
	return b.manifest.Config.Digest, nil
}

// ConfigFile returns the configuration.
func (b *Image) ConfigFile() (*v1.ConfigFile, error) { return b.config.DeepCopy(), nil }

// RawConfigFile returns the bytes of the configuration.
func (b *Image) RawConfigFile() ([]byte, error) { return b.rawConfig, nil }

// Digest returns the digest of the manifest.
func (b *Image) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(b.rawManifest))
	return h, err
}

// Manifest returns the manifest.
func (b *Image) Manifest() (*v1.Manifest, error) { return b.manifest.DeepCopy(), nil }

// RawManifest returns the bytes of the manifest.
func (b *Image) RawManifest() ([]byte, error) { return b.rawManifest, nil }

// LayerByDigest returns the layer, or the configuration as if it were one, with the given digest.
func (b *Image) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if b.manifest == nil {
		return nil, errNotBuilt
	}
	if h == b.manifest.Config.Digest {
		return partial.ConfigLayer(b)
	}
	for _, l := range b.layers {
		if l.summary.Digest == h {
			return l, nil
		}
	}
	return nil, fmt.Errorf("oci: no layer %s", h)
}

// LayerByDiffID returns the layer with the given diffID.
func (b *Image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	for _, l := range b.layers {
		if l.summary.DiffID == h {
			return l, nil
		}
	}
	return nil, fmt.Errorf("oci: no layer with diffID %s", h)
}
