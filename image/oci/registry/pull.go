package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/internal/retry"
)

// maxManifest is how many bytes of a manifest or configuration are read.
// Registries take manifests of 4 MiB.
const maxManifest = 16 << 20

var manifestTypes = []types.MediaType{
	types.OCIManifestSchema1, types.OCIImageIndex, types.DockerManifestSchema2, types.DockerManifestList,
}

// Pull fetches the manifest of an image and its configuration. Its layers come while they are read; see the package comment.
// Of an index, it takes the image for the platform. The digest is that of the image.
//
// Errors are an [*Error], a [*DigestError], or a [*NotFoundError] if there is no such tag, digest or platform.
func Pull(ctx context.Context, ref name.Reference, platform v1.Platform, rt *Runtime) (v1.Image, name.Digest, error) {
	img, digest, err := pull(ctx, ref, platform, rt)
	if err != nil {
		return nil, name.Digest{}, fmt.Errorf("registry: pull %s: %w", ref, err)
	}
	return img, digest, nil
}

func pull(ctx context.Context, ref name.Reference, platform v1.Platform, rt *Runtime) (v1.Image, name.Digest, error) {
	if ref == nil {
		return nil, name.Digest{}, errNothing
	}
	s, err := open(ctx, ref.Context(), rt, transport.PullScope)
	if err != nil {
		return nil, name.Digest{}, err
	}
	raw, t, err := s.manifest(ctx, ref)
	if err != nil {
		return nil, name.Digest{}, err
	}
	if t.IsIndex() {
		list, err := v1.ParseIndexManifest(bytes.NewReader(raw))
		if err != nil {
			return nil, name.Digest{}, s.failf("read the index: %w", err)
		}
		i := slices.IndexFunc(list.Manifests, func(d v1.Descriptor) bool { return d.Platform != nil && d.Platform.Satisfies(platform) })
		if i < 0 {
			return nil, name.Digest{}, &NotFoundError{"image for " + platform.String(), platforms(list)}
		}
		ref = ref.Context().Digest(list.Manifests[i].Digest.String())
		if raw, t, err = s.manifest(ctx, ref); err != nil {
			return nil, name.Digest{}, err
		}
	}
	img, err := s.image(ctx, raw, t)
	if err != nil {
		return nil, name.Digest{}, err
	}
	digest, err := img.Digest()
	return img, ref.Context().Digest(digest.String()), err
}

// platforms lists for what an index has images. What has no platform, such as signatures, is no image.
func platforms(list *v1.IndexManifest) []string {
	const most = 20
	var names []string
	for _, d := range list.Manifests {
		if d.Platform == nil || d.Platform.OS == "unknown" {
			continue
		}
		if name := d.Platform.String(); !slices.Contains(names, name) && len(names) < most {
			names = append(names, name)
		}
	}
	return names
}

// manifest fetches a manifest, and compares its digest if that is known.
func (s *session) manifest(ctx context.Context, ref name.Reference) ([]byte, types.MediaType, error) {
	req, err := s.request(ctx, http.MethodGet, s.url("manifests", ref.Identifier()), nil)
	if err != nil {
		return nil, "", err
	}
	for _, t := range manifestTypes {
		req.Header.Add("Accept", string(t))
	}
	resp, err := s.do(req, http.StatusOK)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		return nil, "", notFound(ref, e)
	}
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return nil, "", s.fail(ctx, err)
	}
	if len(raw) > maxManifest {
		return nil, "", s.failf("the manifest has more than %d bytes", maxManifest)
	}
	if want, ok := ref.(name.Digest); ok {
		digest, err := v1.NewHash(want.DigestStr())
		if err != nil {
			return nil, "", err
		}
		got, _, err := v1.SHA256(bytes.NewReader(raw))
		if err != nil {
			return nil, "", err
		}
		if got != digest {
			return nil, "", fmt.Errorf("manifest: %w", &DigestError{digest, got})
		}
	}
	return raw, types.MediaType(resp.Header.Get("Content-Type")), nil
}

// notFound says what it is that a registry does not have.
func notFound(ref name.Reference, e *Error) error {
	t, ok := errors.AsType[*transport.Error](e)
	if ok && slices.ContainsFunc(t.Errors, func(d transport.Diagnostic) bool { return d.Code == transport.NameUnknownErrorCode }) {
		return &NotFoundError{What: "repository " + ref.Context().RepositoryStr()}
	}
	if _, ok := ref.(name.Digest); ok {
		return &NotFoundError{What: "manifest with this digest"}
	}
	return &NotFoundError{What: "tag " + ref.Identifier()}
}

// image makes an image of its manifest.
func (s *session) image(ctx context.Context, raw []byte, t types.MediaType) (v1.Image, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, s.failf("read the manifest: %w", err)
	}
	if m.MediaType != "" {
		t = m.MediaType
	}
	if m.Config.Size < 0 || m.Config.Size > maxManifest {
		return nil, s.failf("a configuration of %d bytes", m.Config.Size)
	}
	config, err := io.ReadAll(s.fetch(ctx, m.Config))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	remote := &remoteImage{s, ctx, raw, t, m, config}
	return partial.CompressedToImage(remote)
}

// A remoteImage is one whose layers are in a registry.
type remoteImage struct {
	*session
	ctx       context.Context
	raw       []byte
	mediaType types.MediaType
	parsed    *v1.Manifest
	config    []byte
}

func (i *remoteImage) MediaType() (types.MediaType, error) { return i.mediaType, nil }
func (i *remoteImage) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i *remoteImage) RawConfigFile() ([]byte, error)      { return i.config, nil }

func (i *remoteImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if h == i.parsed.Config.Digest {
		return partial.ConfigLayer(i)
	}
	for _, d := range i.parsed.Layers {
		if d.Digest == h {
			return &remoteLayer{i, d}, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", h)
}

type remoteLayer struct {
	image *remoteImage
	desc  v1.Descriptor
}

func (l *remoteLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *remoteLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *remoteLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *remoteLayer) Descriptor() (*v1.Descriptor, error) { return &l.desc, nil }
func (l *remoteLayer) DiffID() (v1.Hash, error)            { return partial.BlobToDiffID(l, l.desc.Digest) }
func (l *remoteLayer) Manifest() (*v1.Manifest, error)     { return l.image.parsed, nil }
func (l *remoteLayer) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(l.image) }
func (l *remoteLayer) Compressed() (io.ReadCloser, error) {
	return l.image.fetch(l.image.ctx, l.desc), nil
}

// fetch returns a reader of a blob.
func (s *session) fetch(ctx context.Context, d v1.Descriptor) io.ReadCloser {
	return &download{session: s, ctx: ctx, desc: d, hash: sha256.New()}
}

// A download reads a blob out of the registry, however often the connection breaks,
// and compares its digest at the end.
type download struct {
	*session
	ctx  context.Context
	desc v1.Descriptor
	hash hash.Hash

	body     io.ReadCloser // nil: to be asked for
	off      int64
	failures int
	err      error // to be returned from now on
}

func (d *download) Read(p []byte) (int, error) {
	for d.err == nil {
		if d.off == d.desc.Size {
			d.err = d.verify()
			break
		}
		if len(p) == 0 {
			return 0, nil
		}
		n, err := d.read(p[:min(int64(len(p)), d.desc.Size-d.off)])
		if n > 0 {
			d.failures = 0
			d.hash.Write(p[:n])
			d.off += int64(n)
			d.advance(int64(n), 0)
			return n, nil
		}
		if err != nil {
			d.err = d.recover(err)
		}
	}
	return 0, d.err
}

// read reads what the connection has, making one if there is none.
// A connection that ends too early is an error.
func (d *download) read(p []byte) (int, error) {
	if d.body == nil {
		if err := d.connect(); err != nil {
			return 0, err
		}
	}
	n, err := d.body.Read(p)
	if n == 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if n == 0 && err != nil {
		d.disconnect()
		err = d.fail(d.ctx, fmt.Errorf("after %d of %d bytes: %w", d.off, d.desc.Size, err))
	}
	return n, err
}

// connect asks for what is not there yet.
func (d *download) connect() error {
	if a := d.desc.Digest.Algorithm; a != "sha256" {
		return fmt.Errorf("digests by %s are not supported", a)
	}
	req, err := d.request(d.ctx, http.MethodGet, d.url("blobs", d.desc.Digest.String()), nil)
	if err != nil {
		return err
	}
	if d.off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", d.off, d.desc.Size-1))
	}
	resp, err := d.do(req, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return err
	}
	d.body = resp.Body
	if resp.StatusCode == http.StatusOK && d.off > 0 {
		// All of it again.
		if _, err := io.CopyN(io.Discard, d.body, d.off); err != nil {
			d.disconnect()
			return d.fail(d.ctx, err)
		}
	}
	return nil
}

// recover waits, or returns an error that will not pass.
func (d *download) recover(err error) error {
	if d.failures++; d.failures == maxFailures || !is[*Error](err) || !mayPass(d.ctx, err) {
		return err
	}
	pause := pauseAfter(d.Pause, d.failures)
	d.note("fetch %s: %v; trying again in %s", d.desc.Digest, err, pause)
	return retry.Sleep(d.ctx, pause)
}

// verify returns io.EOF if the blob is what it should be.
func (d *download) verify() error {
	got := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(d.hash.Sum(nil))}
	if got != d.desc.Digest {
		return &DigestError{d.desc.Digest, got}
	}
	d.dealt(Blob{d.desc.Digest, d.desc.Size, Fetched})
	return io.EOF
}

func (d *download) disconnect() {
	if d.body != nil {
		d.body.Close()
		d.body = nil
	}
}

func (d *download) Close() error {
	d.disconnect()
	d.err = fs.ErrClosed
	return nil
}
