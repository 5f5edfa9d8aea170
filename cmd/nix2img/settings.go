package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/internal/spelling"
)

// This file reads what flags have for defaults: a user's or a site's. A flag goes before the environment,
// which goes before the user's file, which goes before that of the machine.
// Only the command reads them; to the libraries, all are options.

type settableFlag struct {
	name string
	path bool // names files or directories
}

// settable are the flags that can have a default from elsewhere, in the order in which they are tried:
// what others need comes first. None of them says what is in an image.
var settable = []settableFlag{
	{"from", false}, {"store", true}, {"trusted-public-keys", false}, {"netrc-file", true},
	{"compression", false}, {"block-size", false}, {"jobs", false},
	{"no-cache", false}, {"cache", true}, {"cache-size", false}, {"cache-from", true}, {"trust-cache", false},
	{"layers", false}, {"layers-file", true},
	{"authfile", true}, {"mount-from", false},
	{"site", true}, {"partition", false}, {"for", false}, {"driver", false},
}

// configVariable names a file that is read in place of the user's and the machine's.
const configVariable = "NIX2IMG_CONFIG"

// maxConfig is how many bytes of a file are read.
const maxConfig = 1 << 20

// variable returns the environment variable of a flag.
func variable(name string) string {
	return "NIX2IMG_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// A setting is a default, and where it comes from.
type setting struct {
	values []string
	source string
	rank   int  // the larger goes before others
	words  bool // one text, in which spaces are between the values of a list
}

// settings returns the defaults that there are, by the names of flags.
func (u *ui) settings() (map[string]setting, error) {
	all := make(map[string]setting)
	named := os.Getenv(configVariable)
	files := []string{named}
	if named == "" {
		files = configFiles()
	}
	for rank, file := range files {
		found, err := openConfig(file)
		if named == "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
			continue
		}
		if err != nil {
			return nil, usagef("%s: %w", file, reason(err))
		}
		for name, values := range found {
			all[name] = setting{values: values, source: file, rank: rank}
		}
	}
	for _, s := range settable {
		if text := os.Getenv(variable(s.name)); text != "" {
			all[s.name] = setting{values: []string{text}, source: variable(s.name), rank: len(files), words: true}
		}
	}
	u.noteSlips()
	return all, nil
}

// configFiles returns where settings are by default: what comes later goes before the others.
func configFiles() []string {
	files := []string{"/etc/nix2img/config.toml"}
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "nix2img", "config.toml"))
	}
	return files
}

func openConfig(file string) (map[string][]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readConfig(f)
}

// noteSlips tells of environment variables that look like settings, and are none.
func (u *ui) noteSlips() {
	known := []string{configVariable}
	for _, s := range settable {
		known = append(known, variable(s.name))
	}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "NIX2IMG_") || slices.Contains(known, name) {
			continue
		}
		if meant := spelling.Nearest(name, known); meant != "" {
			u.infof("note: the environment variable %s is no setting; did you mean %s?", name, meant)
		}
	}
}

// readConfig reads a file of settings: the names of flags, with their values, in TOML.
func readConfig(r io.Reader) (map[string][]string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return nil, reason(err)
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("more than %d bytes", maxConfig)
	}
	var keys map[string]any
	if _, err := toml.NewDecoder(bytes.NewReader(data)).Decode(&keys); err != nil {
		return nil, err
	}
	found := make(map[string][]string)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		i := slices.IndexFunc(settable, func(s settableFlag) bool { return s.name == key })
		if i < 0 {
			return nil, unknownSetting(key)
		}
		if found[key], err = configValues(keys[key], settable[i].path); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return found, nil
}

func unknownSetting(key string) error {
	var names []string
	for _, s := range settable {
		names = append(names, s.name)
	}
	if meant := spelling.Nearest(key, names); meant != "" {
		return fmt.Errorf("%q is not a setting; did you mean %s?", key, meant)
	}
	return fmt.Errorf("%q is not a setting", key)
}

// configValues returns a value of a file, or the values of a list, as a command line has them.
func configValues(value any, isPath bool) (values []string, err error) {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	for _, v := range list {
		switch v := v.(type) {
		case string:
			if isPath {
				if v, err = expandPath(v); err != nil {
					return nil, err
				}
			}
			values = append(values, v)
		case int64, bool:
			values = append(values, fmt.Sprint(v))
		default:
			return nil, fmt.Errorf("a value is a text, a whole number, true or false, or a list of texts")
		}
	}
	return values, nil
}

// expandPath returns a path of a file of settings, in which ~ and variables stand for what is the user's.
func expandPath(name string) (string, error) {
	var missing string
	expanded := os.Expand(name, func(v string) string {
		value, ok := os.LookupEnv(v)
		if !ok {
			missing = v
		}
		return value
	})
	if rest, ok := strings.CutPrefix(expanded, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		expanded = filepath.Join(home, rest)
	}
	switch {
	case missing != "":
		return "", fmt.Errorf("%s: $%s is not set", name, missing)
	case !filepath.IsAbs(expanded) && !isRemote(expanded):
		return "", fmt.Errorf("%s: not an absolute path", name)
	}
	return expanded, nil
}

// fill gives flags that are not on the command line the values of settings, unless they would be refused there:
// what a site wants for most builds does not stand in the way of others.
func (g *given) fill(u *ui) error {
	if !slices.ContainsFunc(settable, func(s settableFlag) bool { return g.flag(s.name) != nil }) {
		return nil
	}
	all, err := u.settings()
	if err != nil {
		return err
	}
	refused := make(map[string]error)
	for more := true; more; { // until what is refused lacks nothing that others bring
		more = false
		for _, name := range byRank(all) {
			if f := g.flag(name); f == nil || f.Changed || g.settings[name] != "" {
				continue
			}
			if refused[name], err = g.try(name, all[name]); err != nil {
				return err
			}
			if refused[name] == nil {
				more = true
				u.detailf("--%s is %s by %s", name, strings.Join(all[name].values, " "), all[name].source)
			}
		}
	}
	for _, name := range byRank(all) {
		if refused[name] != nil {
			u.detailf("--%s of %s is not used: %v", name, all[name].source, refused[name])
		}
	}
	return nil
}

// try gives a flag the value of a setting, unless that is refused.
func (g *given) try(name string, to setting) (refused, err error) {
	restore, err := setDefault(g.flag(name), to)
	if err != nil {
		return nil, usagef("%s: %s: %w", to.source, name, err)
	}
	g.settings[name] = to.source
	if refused = g.refuse(); refused != nil {
		restore()
		delete(g.settings, name)
	}
	return refused, nil
}

// byRank returns the names of settings, those that go before others first.
func byRank(all map[string]setting) (names []string) {
	for _, s := range settable {
		if _, ok := all[s.name]; ok {
			names = append(names, s.name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return all[b].rank - all[a].rank })
	return names
}

// setDefault sets a flag without marking it as given.
func setDefault(f *pflag.Flag, to setting) (restore func(), err error) {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		before := list.GetSlice()
		if to.words {
			to.values = strings.Fields(to.values[0])
		}
		return func() { list.Replace(before) }, list.Replace(to.values)
	}
	value := f.Value
	if s, ok := value.(*single); ok {
		value = s.Value
	}
	if len(to.values) != 1 {
		return nil, errors.New("it has one value, not a list")
	}
	before := value.String()
	return func() { value.Set(before) }, value.Set(to.values[0])
}

// explain says of an error about a flag that nobody has written where it comes from.
func (g *given) explain(err error) error {
	if !is[*usageError](err) {
		return err
	}
	for _, s := range settable {
		if source := g.settings[s.name]; source != "" && strings.Contains(err.Error(), "--"+s.name) {
			return withHint(err, "--%s comes from %s", s.name, source)
		}
	}
	return err
}
