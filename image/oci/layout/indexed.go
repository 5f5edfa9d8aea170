package layout

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Bounds of indexes.
const (
	maxNested  = 3      // indexes in each other
	maxIndexes = 1000   // that are read
	maxImages  = 100000 // that are listed
)

// An indexWalk lists the images of an OCI layout. Indexes may be nested.
type indexWalk struct {
	s       *Stored
	list    []*candidate
	known   map[string]*candidate // by digest and platform
	indexes int
}

// indexed lists the images of the layout's index.
func (s *Stored) indexed() ([]*candidate, error) {
	w := &indexWalk{s: s, known: make(map[string]*candidate)}
	err := s.read(indexName, func(r io.Reader) error { return w.index(r, 0, nil) })
	return w.list, err
}

func (w *indexWalk) index(r io.Reader, depth int, above []string) error {
	if w.indexes++; w.indexes > maxIndexes {
		return fmt.Errorf("there are more than %d indexes", maxIndexes)
	}
	index, err := v1.ParseIndexManifest(r)
	if err != nil {
		return err
	}
	for _, d := range index.Manifests {
		tag := d.Annotations[TagAnnotation]
		tags := above
		if len(above) == 0 && tag != "" {
			tags = []string{tag}
		}
		if isSignature(&d, tag) {
			continue
		}
		switch {
		case d.MediaType.IsIndex():
			if depth == maxNested {
				return fmt.Errorf("more than %d indexes in each other", maxNested)
			}
			err = w.s.readBlob(d.Digest, func(r io.Reader) error { return w.index(r, depth+1, tags) })
		case d.MediaType.IsImage():
			err = w.image(&d, tags)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// signatureTag is what cosign calls signatures, attestations and bills of materials of an image.
var signatureTag = regexp.MustCompile(`(^|:)sha256-[0-9a-f]{64}(\.(sig|att|sbom))?$`)

// isSignature reports whether a descriptor is that of something about an image, and not of one.
func isSignature(d *v1.Descriptor, tag string) bool {
	unknown := d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
	return unknown || !isConfig(types.MediaType(d.ArtifactType)) || d.Annotations["vnd.docker.reference.type"] != "" || signatureTag.MatchString(tag)
}

func (w *indexWalk) image(d *v1.Descriptor, tags []string) error {
	key := d.Digest.String()
	if d.Platform != nil {
		key += " " + d.Platform.String()
	}
	if c := w.known[key]; c != nil { // the same under another tag
		for _, tag := range tags {
			if !slices.Contains(c.tags, tag) {
				c.tags = append(slices.Clone(c.tags), tag)
			}
		}
		return nil
	}
	if len(w.list) == maxImages {
		return fmt.Errorf("there are more than %d images", maxImages)
	}
	c := &candidate{tags: tags, platform: d.Platform, digest: d.Digest, read: w.s.readImage}
	w.known[key] = c
	w.list = append(w.list, c)
	return nil
}

// readImage reads an image's manifest and configuration.
func (s *Stored) readImage(c *candidate) error {
	err := s.readBlob(c.digest, func(r io.Reader) (err error) {
		c.manifest, err = v1.ParseManifest(r)
		return err
	})
	if err != nil {
		return err
	}
	if !isImage(c.manifest) {
		return errNotImage
	}
	err = s.readBlob(c.manifest.Config.Digest, func(r io.Reader) (err error) {
		c.config, err = v1.ParseConfigFile(r)
		return err
	})
	if err != nil {
		return err
	}
	diffIDs := c.config.RootFS.DiffIDs
	if len(c.manifest.Layers) != len(diffIDs) {
		return fmt.Errorf("%d layers, and diffIDs of %d", len(c.manifest.Layers), len(diffIDs))
	}
	for i, l := range c.manifest.Layers {
		c.layers = append(c.layers, storedLayer{blobName(l.Digest), diffIDs[i], l.MediaType})
	}
	return nil
}

// isImage reports whether a manifest is that of an image, and not of something that is stored like one.
func isImage(m *v1.Manifest) bool {
	if !isConfig(m.Config.MediaType) {
		return false
	}
	return len(m.Layers) == 0 || slices.ContainsFunc(m.Layers, func(d v1.Descriptor) bool {
		return isArchive(d.MediaType) || strings.Contains(string(d.MediaType), "squashfs")
	})
}

// isConfig reports whether a type is that of an image's configuration, or not known.
// Some writers put it into the index as the type of the artifact.
func isConfig(t types.MediaType) bool {
	return t == types.OCIConfigJSON || t == types.DockerConfigJSON || t == ""
}

// isArchive reports whether a layer is a tar archive, perhaps compressed.
func isArchive(t types.MediaType) bool {
	return t == "" || strings.Contains(string(t), ".tar") && !strings.HasSuffix(string(t), "+encrypted")
}
