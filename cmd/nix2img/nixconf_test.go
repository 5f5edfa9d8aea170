package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nix2img/nix2img/closure/binarycache"
)

// Settings are read where Nix reads them, and later ones replace earlier ones, or add to them.
func TestNixConf(t *testing.T) {
	const nixos = "https://cache.nixos.org/"
	for name, test := range map[string]struct {
		files map[string]string // below the directory that DIR stands for
		env   map[string]string
		want  nixConf
	}{
		"nothing": {want: nixConf{keys: []string{binarycache.DefaultKey}, substituters: []string{nixos}}},
		"keys are replaced": {
			files: map[string]string{"etc/nix.conf": "trusted-public-keys = a:1 b:2 # and no other\n"},
			want:  nixConf{keys: []string{"a:1", "b:2"}, substituters: []string{nixos}},
		},
		"keys are added": {
			files: map[string]string{"etc/nix.conf": "extra-trusted-public-keys = a:1\nextra-substituters = https://a.example\n"},
			want:  nixConf{keys: []string{binarycache.DefaultKey, "a:1"}, substituters: []string{nixos, "https://a.example"}},
		},
		"old names": {
			files: map[string]string{"etc/nix.conf": "binary-caches = https://a.example\nbinary-cache-public-keys = a:1\n"},
			want:  nixConf{keys: []string{"a:1"}, substituters: []string{"https://a.example"}},
		},
		"included": {
			files: map[string]string{
				"etc/nix.conf":       "include more/keys.conf\n!include missing.conf\n#include missing.conf\n",
				"etc/more/keys.conf": "trusted-public-keys = a:1\n!include DIR/etc/b.conf",
				"etc/b.conf":         "extra-trusted-public-keys = b:2",
			},
			want: nixConf{keys: []string{"a:1", "b:2"}, substituters: []string{nixos}},
		},
		"the user's count more": {
			files: map[string]string{
				"etc/nix.conf":      "substituters = https://etc.example\nnetrc-file = /etc/netrc\n",
				"xdg/nix/nix.conf":  "extra-substituters = https://xdg.example\n",
				"home/nix/nix.conf": "extra-substituters = https://home.example\nnetrc-file = /home/netrc\n",
			},
			want: nixConf{
				keys: []string{binarycache.DefaultKey}, netrcFile: "/home/netrc",
				substituters: []string{"https://etc.example", "https://xdg.example", "https://home.example"},
			},
		},
		"files that are named": {
			files: map[string]string{
				"home/nix/nix.conf": "substituters = https://home.example\n",
				"a":                 "substituters = https://a.example\n", "b": "substituters = https://b.example\n",
			},
			env:  map[string]string{"NIX_USER_CONF_FILES": "DIR/a:DIR/b"},
			want: nixConf{keys: []string{binarycache.DefaultKey}, substituters: []string{"https://a.example"}},
		},
		"the environment counts most": {
			files: map[string]string{"home/nix/nix.conf": "substituters = https://home.example\naccess-tokens = a=1 b=2\n"},
			env:   map[string]string{"NIX_CONFIG": "substituters =\nextra-access-tokens = c=3=\nnarinfo-cache-positive-ttl = 60\nnarinfo-cache-negative-ttl = 0"},
			want: nixConf{
				keys: []string{binarycache.DefaultKey}, tokens: map[string]string{"a": "1", "b": "2", "c": "3="},
				keepFound: time.Minute, keepMissing: -1,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range test.files {
				file = filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("NIX_CONF_DIR", filepath.Join(dir, "etc"))
			t.Setenv("XDG_CONFIG_DIRS", filepath.Join(dir, "xdg"))
			t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "home"))
			for key, value := range test.env {
				t.Setenv(key, strings.ReplaceAll(value, "DIR", dir))
			}
			got, err := readNixConf()
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			want.dir = filepath.Join(dir, "etc")
			if want.netrcFile == "" {
				want.netrcFile = filepath.Join(want.dir, "netrc")
			}
			if want.tokens == nil {
				want.tokens = map[string]string{}
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
	dir := t.TempDir()
	t.Setenv("NIX_CONF_DIR", dir)
	for _, text := range []string{"include nix.conf", "include missing.conf"} {
		if err := os.WriteFile(filepath.Join(dir, "nix.conf"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := readNixConf(); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
