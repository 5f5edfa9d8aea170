package layout

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A Choice says which of several images is meant. Architectures have Go's names.
type Choice struct {
	// Arch is the architecture. If it is not empty, an image for another one is not taken.
	Arch string
	// Host is the architecture that is preferred if Arch is empty.
	Host string
	// Latest takes the image that was put there last, of those with different tags.
	// Without it, a tag has to be given if there are several.
	Latest bool
}

// A ChoiceError reports that there are several images, or none of those that are meant.
type ChoiceError struct {
	Tags  []string // that there are, if it is about them
	Archs []string // that there are, if it is about them
	msg   string
}

func (e *ChoiceError) Error() string { return e.msg }

// maxAlike is how many images there may be to choose from.
const maxAlike = 1000

// A candidate is an image that may be meant.
type candidate struct {
	tags     []string
	platform *v1.Platform // nil: only its configuration knows
	read     func(*candidate) error

	loaded   bool
	config   *v1.ConfigFile
	manifest *v1.Manifest
	digest   v1.Hash // of the manifest
	layers   []storedLayer
}

// load reads the configuration and, if there is one, the manifest.
func (c *candidate) load() error {
	if c.loaded {
		return nil
	}
	if err := c.read(c); err != nil {
		return err
	}
	c.loaded = true
	if c.platform == nil {
		c.platform = &v1.Platform{OS: c.config.OS, Architecture: c.config.Architecture, Variant: c.config.Variant}
	}
	return nil
}

// errNotImage reports a manifest of something else, such as a signature.
var errNotImage = errors.New("it is not that of an image")

// of returns the image that is meant.
func (ch *Choice) of(name string, list []*candidate, tag string) (*candidate, error) {
	if len(list) == 0 {
		return nil, &ChoiceError{msg: "it has no image"}
	}
	list, err := ch.tagged(name, list, tag)
	if err != nil {
		return nil, err
	}
	if list, err = loadAll(list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, &ChoiceError{msg: "it has no image"}
	}
	if linux := filter(list, func(c *candidate) bool { return c.platform.OS == "linux" }); len(linux) > 0 {
		list = linux
	}
	want, exact := ch.Arch, ch.Arch != ""
	if !exact {
		want = ch.Host
	}
	if exact || len(archs(list)) > 1 {
		known := archs(list)
		if list = filter(list, func(c *candidate) bool { return c.platform.Architecture == want || c.platform.Architecture == "" }); len(list) == 0 {
			return nil, &ChoiceError{Archs: known, msg: fmt.Sprintf("it has no image for %s, but for %s", want, strings.Join(known, ", "))}
		}
	}
	if plain := filter(list, func(c *candidate) bool { return c.platform.Variant == "" }); len(plain) > 0 {
		list = plain
	}
	return list[len(list)-1], nil
}

// tagged returns the images with a tag. If none is given, all must have the same ones.
func (ch *Choice) tagged(name string, list []*candidate, tag string) ([]*candidate, error) {
	var tags []string
	for _, c := range list {
		tags = append(tags, c.tags...)
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	if tag == "" {
		if ch.Latest || !slices.ContainsFunc(list, func(c *candidate) bool { return !slices.Equal(c.tags, list[0].tags) }) {
			return list, nil
		}
		return nil, &ChoiceError{Tags: tags, msg: fmt.Sprintf("it has images with several tags: name one of them, as %s:TAG, of %s", name, some(tags))}
	}
	for _, means := range []func(string) bool{
		func(t string) bool { return t == tag },
		// Docker's names have the registry and the repository in front.
		func(t string) bool { return strings.HasSuffix(t, "/"+tag) || strings.HasSuffix(t, ":"+tag) },
	} {
		if with := filter(list, func(c *candidate) bool { return slices.ContainsFunc(c.tags, means) }); len(with) > 0 {
			return with, nil
		}
	}
	return nil, &ChoiceError{Tags: tags, msg: fmt.Sprintf("it has no image %q, but %s", tag, some(tags))}
}

// loadAll reads what there is to know of images, unless there is nothing to choose. Those that are something else are left out.
func loadAll(list []*candidate) (images []*candidate, err error) {
	if len(list) > maxAlike {
		return nil, fmt.Errorf("there are %d images to choose from", len(list))
	}
	for _, c := range list {
		if c.platform == nil || len(list) == 1 {
			if err := c.load(); errors.Is(err, errNotImage) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		images = append(images, c)
	}
	return images, nil
}

func filter(list []*candidate, keep func(*candidate) bool) (kept []*candidate) {
	for _, c := range list {
		if keep(c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// archs returns the architectures of images.
func archs(list []*candidate) (names []string) {
	for _, c := range list {
		if c.platform.Architecture != "" {
			names = append(names, c.platform.Architecture)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// some lists some names, for a message.
func some(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%q and %d more", names[:most], len(names)-most)
	}
	return fmt.Sprintf("%q", names)
}
