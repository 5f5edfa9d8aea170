package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nix2img/nix2img/closure/binarycache"
)

// nixConf is what Nix has been told about binary caches.
type nixConf struct {
	keys         []string // trusted-public-keys
	substituters []string
	netrcFile    string
	tokens       map[string]string // access-tokens, by host

	// narinfo-cache-positive-ttl and -negative-ttl, as binarycache.Runtime has them
	keepFound, keepMissing time.Duration

	dir string // of the machine's settings
}

// readNixConf reads the settings where Nix reads them: in nix.conf of NIX_CONF_DIR, by default /etc/nix,
// in the files of the user, and in NIX_CONFIG.
func readNixConf() (*nixConf, error) {
	c := &nixConf{
		keys:         []string{binarycache.DefaultKey},
		substituters: []string{"https://cache.nixos.org/"},
		tokens:       make(map[string]string),
		dir:          cmp.Or(os.Getenv("NIX_CONF_DIR"), "/etc/nix"),
	}
	c.netrcFile = filepath.Join(c.dir, "netrc")
	files := []string{filepath.Join(c.dir, "nix.conf")}
	if list, ok := os.LookupEnv("NIX_USER_CONF_FILES"); ok {
		files = append(files, backwards(filepath.SplitList(list))...)
	} else {
		dirs := filepath.SplitList(cmp.Or(os.Getenv("XDG_CONFIG_DIRS"), "/etc/xdg"))
		home, err := os.UserConfigDir()
		if err == nil {
			dirs = append([]string{home}, dirs...)
		}
		for _, dir := range backwards(dirs) { // those that count more come last
			files = append(files, filepath.Join(dir, "nix", "nix.conf"))
		}
	}
	for _, file := range files {
		if err := c.readFile(file, true, 0); err != nil {
			return nil, err
		}
	}
	return c, c.read(os.Getenv("NIX_CONFIG"), c.dir, 0)
}

func backwards(list []string) []string {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

func (c *nixConf) readFile(file string, optional bool, depth int) error {
	text, err := os.ReadFile(file)
	if optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read settings of Nix: %w", err)
	}
	return c.read(string(text), filepath.Dir(file), depth)
}

func (c *nixConf) read(text, dir string, depth int) error {
	if depth > 20 {
		return errors.New("read settings of Nix: too many files that include each other")
	}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 2 && (words[0] == "include" || words[0] == "!include") {
			file := words[1]
			if !filepath.IsAbs(file) {
				file = filepath.Join(dir, file)
			}
			if err := c.readFile(file, words[0] == "!include", depth+1); err != nil {
				return err
			}
		}
		if len(words) >= 2 && words[1] == "=" {
			c.set(words[0], words[2:])
		}
	}
	return nil
}

func (c *nixConf) set(name string, values []string) {
	name, extra := strings.CutPrefix(name, "extra-")
	assign := func(list *[]string) {
		if !extra {
			*list = nil
		}
		*list = append(*list, values...)
	}
	switch name {
	case "trusted-public-keys", "binary-cache-public-keys":
		assign(&c.keys)
	case "substituters", "binary-caches":
		assign(&c.substituters)
	case "netrc-file":
		c.netrcFile = strings.Join(values, " ")
	case "narinfo-cache-positive-ttl":
		c.keepFound = lifetime(values)
	case "narinfo-cache-negative-ttl":
		c.keepMissing = lifetime(values)
	case "access-tokens":
		if !extra {
			clear(c.tokens)
		}
		for _, v := range values {
			if host, token, ok := strings.Cut(v, "="); ok {
				c.tokens[host] = token
			}
		}
	}
}

// lifetime reads a number of seconds. What makes no sense is as good as none.
func lifetime(values []string) time.Duration {
	n, err := strconv.ParseUint(strings.Join(values, " "), 10, 32)
	switch {
	case err != nil:
		return 0
	case n == 0:
		return -1
	}
	return time.Duration(n) * time.Second
}

// token returns the access token for a host, or "".
func (c *nixConf) token(host string) string {
	name, _, _ := strings.Cut(host, ":")
	return cmp.Or(c.tokens[host], c.tokens[name])
}
