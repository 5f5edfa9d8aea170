package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/internal/par"
)

// Manifest is a [v1.Image] or a [v1.ImageIndex].
type Manifest interface {
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	RawManifest() ([]byte, error)
}

// Push sends an image, or an index with all its images, and returns what it is called by its digest.
// Of layers, only those that the registry lacks are read.
//
// Errors of the registry and the way to it are an [*Error]; others are those of the image.
func Push(ctx context.Context, ref name.Reference, m Manifest, rt *Runtime) (name.Digest, error) {
	digest, _, err := push(ctx, ref, m, rt, false)
	if err != nil {
		return name.Digest{}, fmt.Errorf("registry: push %s: %w", ref, err)
	}
	return digest, nil
}

// Difference is what a registry lacks of an image.
type Difference struct {
	Digest name.Digest // what the image is called by its digest
	There  bool        // the reference leads to it already
	Blobs  []Blob      // each of them Missing, Present or Mounted; none if the image is There
}

// Compare finds out what [Push] would do, and changes nothing in the registry. No bytes of the image are read.
// Its errors are those of Push.
func Compare(ctx context.Context, ref name.Reference, m Manifest, rt *Runtime) (*Difference, error) {
	if rt == nil {
		rt = new(Runtime)
	}
	d := new(Difference)
	own := *rt
	own.Blob = func(b Blob) {
		d.Blobs = append(d.Blobs, b)
		if rt.Blob != nil {
			rt.Blob(b)
		}
	}
	var err error
	if d.Digest, d.There, err = push(ctx, ref, m, &own, true); err != nil {
		return nil, fmt.Errorf("registry: compare %s: %w", ref, err)
	}
	return d, nil
}

// errNothing is the error of what is nil.
var errNothing = errors.New("no reference, image or document is given")

// push also reports whether the reference led to the image before. If it is dry, nothing is sent.
func push(ctx context.Context, ref name.Reference, m Manifest, rt *Runtime, dry bool) (result name.Digest, there bool, err error) {
	if ref == nil || m == nil {
		return result, false, errNothing
	}
	digest, err := m.Digest()
	if err != nil {
		return result, false, err
	}
	result = ref.Context().Digest(digest.String())
	if want, ok := ref.(name.Digest); ok && want.DigestStr() != digest.String() {
		return result, false, fmt.Errorf("the digest of the image is %s", digest)
	}
	s, err := open(ctx, ref.Context(), rt, transport.PushScope)
	if err != nil {
		return result, false, err
	}
	s.dry = dry
	if there, err := s.points(ctx, ref.Identifier(), digest); there || err != nil {
		return result, there, err
	}
	if err := s.put(ctx, m); err != nil {
		return result, false, err
	}
	if _, ok := ref.(name.Tag); ok {
		err = s.putManifest(ctx, ref.Identifier(), m)
	}
	return result, false, err
}

// CheckPush reports what stands in the way of a push, before there is anything to send:
// a host that cannot be reached, wrong credentials, a repository that others write to. The error is an [*Error].
func CheckPush(ctx context.Context, ref name.Reference, rt *Runtime) error {
	if err := checkPush(ctx, ref, rt); err != nil {
		return fmt.Errorf("registry: push %s: %w", ref, err)
	}
	return nil
}

// checkPush begins an upload, which is the one thing that every registry asks the rights for.
func checkPush(ctx context.Context, ref name.Reference, rt *Runtime) error {
	if ref == nil {
		return errNothing
	}
	s, err := open(ctx, ref.Context(), rt, transport.PushScope)
	if err != nil {
		return err
	}
	resp, err := s.ask(ctx, http.MethodPost, s.url("blobs", "uploads", ""), http.StatusAccepted)
	if err != nil {
		return err
	}
	// A registry that cannot be told that nothing will come forgets the upload in time.
	if at, err := resp.Location(); err == nil {
		s.ask(ctx, http.MethodDelete, at.String(), http.StatusNoContent)
	}
	return ctx.Err()
}

// points reports whether a tag or digest leads to a digest.
func (s *session) points(ctx context.Context, id string, digest v1.Hash) (bool, error) {
	req, err := s.request(ctx, http.MethodHead, s.url("manifests", id), nil)
	if err != nil {
		return false, err
	}
	for _, t := range manifestTypes {
		req.Header.Add("Accept", string(t))
	}
	resp, err := s.do(req, http.StatusOK)
	if e, ok := errors.AsType[*Error](err); ok && (e.Status == http.StatusNotFound || e.Status == http.StatusForbidden) {
		return false, nil // some forbid to look for what is not there
	}
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return resp.Header.Get("Docker-Content-Digest") == digest.String(), nil
}

// put sends what m consists of, and m by its digest.
func (s *session) put(ctx context.Context, m Manifest) error {
	var err error
	switch m := m.(type) {
	case v1.Image:
		err = s.putBlobs(ctx, m)
	case v1.ImageIndex:
		err = s.putImages(ctx, m)
	default:
		err = fmt.Errorf("a %T is neither an image nor an index", m)
	}
	if err != nil {
		return err
	}
	digest, err := m.Digest()
	if err != nil {
		return err
	}
	return s.putManifest(ctx, digest.String(), m)
}

func (s *session) putImages(ctx context.Context, idx v1.ImageIndex) error {
	list, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range list.Manifests {
		var m Manifest
		if d.MediaType.IsIndex() {
			m, err = idx.ImageIndex(d.Digest)
		} else {
			m, err = idx.Image(d.Digest)
		}
		if err != nil {
			return err
		}
		if err := s.put(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// putBlobs sends layers and configuration.
func (s *session) putBlobs(ctx context.Context, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return err
	}
	blobs, err := s.plan(append(layers, config))
	if err != nil {
		return err
	}
	var seq iter.Seq2[v1.Layer, error] = func(yield func(v1.Layer, error) bool) {
		for _, l := range blobs {
			if !yield(l, nil) {
				return
			}
		}
	}
	send := func(ctx context.Context, l v1.Layer) (struct{}, error) {
		digest, err := l.Digest()
		if err != nil {
			return struct{}{}, err
		}
		size, err := l.Size()
		if err != nil {
			return struct{}{}, err
		}
		state, err := s.blob(ctx, digest, size, l.Compressed)
		if err != nil {
			return struct{}{}, fmt.Errorf("blob %s: %w", digest, err)
		}
		s.dealt(Blob{digest, size, state})
		return struct{}{}, nil
	}
	for _, err := range par.Map(ctx, s.Jobs, s.Jobs, seq, send) {
		if err != nil {
			return err
		}
	}
	return nil
}

// plan leaves out what is there twice or belongs elsewhere, and adds up the rest.
func (s *session) plan(layers []v1.Layer) ([]v1.Layer, error) {
	var blobs []v1.Layer
	seen := make(map[v1.Hash]bool)
	total := int64(0)
	for _, l := range layers {
		t, err := l.MediaType()
		if err != nil {
			return nil, err
		}
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		if !t.IsDistributable() || seen[digest] {
			continue
		}
		size, err := l.Size()
		if err != nil {
			return nil, err
		}
		seen[digest] = true
		total += size
		blobs = append(blobs, l)
	}
	s.mu.Lock()
	s.progress.Total += total
	s.mu.Unlock()
	return blobs, nil
}

// putManifest makes a tag or digest lead to m.
func (s *session) putManifest(ctx context.Context, id string, m Manifest) error {
	if s.dry {
		return nil
	}
	raw, err := m.RawManifest()
	if err != nil {
		return err
	}
	t, err := m.MediaType()
	if err != nil {
		return err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req, err := s.request(ctx, http.MethodPut, s.url("manifests", id), bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", string(t))
	resp, err := s.do(req, http.StatusOK, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return err
	}
	io.Copy(io.Discard, resp.Body) // the connection can be used again
	resp.Body.Close()
	return s.checkDigest(resp, digest)
}
