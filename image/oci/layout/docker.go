package layout

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Files of an archive that docker save writes: what has described the images since version 1.10, and before.
const (
	savedName  = "manifest.json"
	legacyName = "repositories"
)

// dockerManifest is an entry of the file manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// maxLegacy is how many layers an image without a list of them may have.
const maxLegacy = 1000

// saved lists the images of an archive of docker save.
func (s *Stored) saved() (list []*candidate, err error) {
	var entries []dockerManifest
	err = s.read(savedName, func(r io.Reader) error { return json.NewDecoder(r).Decode(&entries) })
	for _, e := range entries {
		list = append(list, &candidate{tags: e.RepoTags, read: func(c *candidate) error { return s.readSaved(c, &e) }})
	}
	return list, err
}

func (s *Stored) readSaved(c *candidate, e *dockerManifest) error {
	err := s.read(path.Clean(e.Config), func(r io.Reader) (err error) {
		c.config, err = v1.ParseConfigFile(r)
		return err
	})
	if err != nil {
		return err
	}
	diffIDs := c.config.RootFS.DiffIDs
	if len(e.Layers) != len(diffIDs) {
		return fmt.Errorf("%d layers, and diffIDs of %d", len(e.Layers), len(diffIDs))
	}
	for i, name := range e.Layers {
		c.layers = append(c.layers, storedLayer{blob: path.Clean(name), diffID: diffIDs[i]})
	}
	return nil
}

// savedLegacy lists the images of an archive of docker save before version 1.10:
// for each layer there is a folder, whose name is known for those with a tag.
func (s *Stored) savedLegacy() (list []*candidate, err error) {
	var tops map[string]map[string]string
	err = s.read(legacyName, func(r io.Reader) error { return json.NewDecoder(r).Decode(&tops) })
	for _, name := range slices.Sorted(maps.Keys(tops)) {
		for _, tag := range slices.Sorted(maps.Keys(tops[name])) {
			id := tops[name][tag]
			list = append(list, &candidate{tags: []string{name + ":" + tag}, read: func(c *candidate) error { return s.readLegacy(c, id) }})
		}
	}
	return list, err
}

func (s *Stored) readLegacy(c *candidate, id string) error {
	for id != "" {
		if len(c.layers) == maxLegacy {
			return fmt.Errorf("it has more than %d layers", maxLegacy)
		}
		var layer struct{ Parent string }
		err := s.read(path.Join(path.Clean("/" + id)[1:], "json"), func(r io.Reader) error {
			data, err := io.ReadAll(r)
			if err == nil {
				err = json.Unmarshal(data, &layer)
			}
			if err == nil && c.config == nil {
				c.config = new(v1.ConfigFile)
				err = json.Unmarshal(data, c.config)
			}
			return err
		})
		if err != nil {
			return err
		}
		c.layers = append(c.layers, storedLayer{blob: path.Join(path.Clean("/" + id)[1:], "layer.tar")})
		id = layer.Parent
	}
	slices.Reverse(c.layers)
	return nil
}
