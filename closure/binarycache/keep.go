package binarycache

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// How long Nix believes what a cache has said, unless it is told otherwise.
const (
	keepFound   = 30 * 24 * time.Hour
	keepMissing = time.Hour // that an object is not there
	keepCache   = 7 * 24 * time.Hour
)

// lifetime returns how long a file is believed: one that is not there, or one that is.
func (rt *Runtime) lifetime(name string, missing bool) time.Duration {
	switch {
	case name == cacheInfoName && rt.KeepFound >= 0:
		return keepCache
	case missing:
		return cmp.Or(rt.KeepMissing, keepMissing)
	}
	return cmp.Or(rt.KeepFound, keepFound)
}

// place is where a file of the cache is kept, or empty.
func (c *Cache) place(name string) string {
	if c.rt.Keep == "" || c.rt.Now == nil || c.dir != "" {
		return ""
	}
	return filepath.Join(c.rt.Keep, fmt.Sprintf("%x", sha256.Sum256([]byte(c.base.String())))[:32], name)
}

// kept returns what is kept of a file, and whether that may be used: no text means that the file is not there.
func (c *Cache) kept(name string) (text []byte, ok bool) {
	file := c.place(name)
	if file == "" {
		return nil, false
	}
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxInfo {
		return nil, false
	}
	if age := c.rt.Now().Sub(info.ModTime()); age < 0 || age >= c.rt.lifetime(name, info.Size() == 0) {
		return nil, false
	}
	text, err = os.ReadFile(file)
	if err != nil || int64(len(text)) != info.Size() {
		return nil, false
	}
	if len(text) == 0 {
		return nil, true
	}
	return text, true
}

// keep keeps a file, or that it is not there. What cannot be kept will be asked for again.
func (c *Cache) keep(name string, text []byte) {
	file := c.place(name)
	if file == "" || name == cacheInfoName && text == nil {
		return
	}
	if os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	if name == cacheInfoName {
		c.sweep(filepath.Dir(file)) // now and then
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return
	}
	_, err = f.Write(text)
	if err2 := f.Close(); err != nil || err2 != nil || os.Rename(f.Name(), file) != nil {
		os.Remove(f.Name())
	}
}

// sweep removes what has been kept for too long.
func (c *Cache) sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && c.rt.Now().Sub(info.ModTime()) >= c.rt.lifetime(e.Name(), info.Size() == 0) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// forget drops what is kept of a file that has turned out to be wrong.
func (c *Cache) forget(name string) {
	if file := c.place(name); file != "" {
		os.Remove(file)
	}
}
