package vfs

import (
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Node is a file of a [Tree]: it has everything but a name.
// One node may have several names, which then are hard links, if it is no directory.
//
// A node takes 80 bytes, and a directory 24 more and a name for each of its entries.
type Node struct {
	mode fs.FileMode
	nsec int32 // of the modification time
	sec  int64
	size int64
	off  int64 // of the contents in a reader
	from any   // contents or target: string, io.ReaderAt or opener
	dir  *directory
	sys  any
}

// An opener opens the contents of a regular file.
type opener func() (io.ReadCloser, error)

func newNode(mode fs.FileMode, size, off int64, from any) *Node {
	return &Node{mode: mode, size: size, off: off, from: from, sec: 1}
}

// NewDir returns an empty directory.
// As all nodes do, it has the modification time that files in a store have, one second after the epoch.
// Of the mode, the type does not count.
func NewDir(mode fs.FileMode) *Node {
	n := newNode(fs.ModeDir|mode&^fs.ModeType, 0, 0, nil)
	n.dir = new(directory)
	return n
}

// NewSymlink returns a symbolic link.
func NewSymlink(target string) *Node {
	return newNode(fs.ModeSymlink|0o777, int64(len(target)), 0, target)
}

// NewFile returns a regular file with the given contents.
func NewFile(mode fs.FileMode, text string) *Node {
	return newNode(mode&^fs.ModeType, int64(len(text)), 0, text)
}

// NewSection returns a regular file whose contents are size bytes of r from off on.
func NewSection(mode fs.FileMode, r io.ReaderAt, off, size int64) *Node {
	return newNode(mode&^fs.ModeType, size, off, r)
}

// NewOpened returns a regular file of size bytes, whose contents are what open opens.
// The file implements [io.ReaderAt] if that does.
func NewOpened(mode fs.FileMode, size int64, open func() (io.ReadCloser, error)) *Node {
	return newNode(mode&^fs.ModeType, size, 0, opener(open))
}

// NewSpecial returns a file of the mode's type that has neither contents nor a target, for example a device.
func NewSpecial(mode fs.FileMode) *Node { return newNode(mode, 0, 0, nil) }

// Chmod sets a node's permissions, with setuid, setgid and sticky.
func (n *Node) Chmod(mode fs.FileMode) { n.mode = n.mode.Type() | mode&^fs.ModeType }

// SetModTime sets the modification time.
func (n *Node) SetModTime(t time.Time) { n.sec, n.nsec = t.Unix(), int32(t.Nanosecond()) }

// SetSys sets what Sys of the file's [fs.FileInfo] returns. At first, it is nil.
func (n *Node) SetSys(sys any) { n.sys = sys }

// Mode returns type and permissions.
func (n *Node) Mode() fs.FileMode { return n.mode }

// Info describes the node under a name.
func (n *Node) Info(name string) fs.FileInfo { return &info{name, n} }

// IsDir reports whether a node is a directory.
func (n *Node) IsDir() bool { return n.dir != nil }

// Target returns the target of a symbolic link, and nothing for all other nodes.
func (n *Node) Target() string {
	if n.mode.Type() != fs.ModeSymlink {
		return ""
	}
	return n.from.(string)
}

// Len returns how many entries a directory has.
func (n *Node) Len() int {
	if n.dir == nil {
		return 0
	}
	return n.dir.len()
}

// Entry returns an entry of a directory, or nil if there is none.
func (n *Node) Entry(name string) *Node {
	if n.dir == nil {
		return nil
	}
	return n.dir.get(name)
}

// Put gives a directory an entry, instead of the one that has the name.
// Many are put fastest in the order of their names.
func (n *Node) Put(name string, entry *Node) { n.dir.put(name, entry) }

// Remove removes an entry of a directory, if it is there.
func (n *Node) Remove(name string) { n.dir.remove(name) }

// RemoveFunc removes those entries of a directory for which del returns true.
func (n *Node) RemoveFunc(del func(name string, entry *Node) bool) {
	for name, entry := range n.Entries() {
		if del(name, entry) {
			n.dir.remove(name)
		}
	}
}

// Entries returns what a directory has, by the bytes of the names.
// It may be changed meanwhile: what is returned is what was there in the beginning.
func (n *Node) Entries() iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) {
		if n.dir == nil {
			return
		}
		for _, e := range slices.Clone(n.dir.sorted()) {
			if !yield(e.name, e.node) {
				return
			}
		}
	}
}

// fewEntries is up to how many entries it costs little to move them.
const fewEntries = 64

// A directory is a sorted list as long as entries come in order or are few,
// and a map afterwards.
type directory struct {
	byName map[string]*Node // nil: list alone has everything

	mu   sync.Mutex // for list, beside byName
	list []info     // sorted; beside byName nil if it is out of date
}

func (d *directory) len() int {
	if d.byName != nil {
		return len(d.byName)
	}
	return len(d.list)
}

func (d *directory) search(name string) (int, bool) {
	return slices.BinarySearchFunc(d.list, name, func(e info, name string) int { return strings.Compare(e.name, name) })
}

func (d *directory) get(name string) *Node {
	if d.byName != nil {
		return d.byName[name]
	}
	if i, ok := d.search(name); ok {
		return d.list[i].node
	}
	return nil
}

func (d *directory) put(name string, n *Node) {
	if d.byName == nil {
		count := len(d.list)
		if count == 0 || d.list[count-1].name < name {
			d.list = append(d.list, info{name, n})
			return
		}
		i, ok := d.search(name)
		switch {
		case ok:
			d.list[i].node = n
			return
		case count < fewEntries:
			d.list = slices.Insert(d.list, i, info{name, n})
			return
		}
		d.index()
	}
	d.byName[name], d.list = n, nil
}

func (d *directory) remove(name string) {
	if d.byName == nil {
		i, ok := d.search(name)
		switch {
		case !ok:
			return
		case len(d.list) <= fewEntries:
			d.list = slices.Delete(d.list, i, i+1)
			return
		}
		d.index()
	}
	delete(d.byName, name)
	d.list = nil
}

func (d *directory) index() {
	d.byName = make(map[string]*Node, len(d.list))
	for _, e := range d.list {
		d.byName[e.name] = e.node
	}
}

func (d *directory) sorted() []info {
	if d.byName == nil {
		return d.list
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list == nil {
		d.list = make([]info, 0, len(d.byName))
		for name, n := range d.byName {
			d.list = append(d.list, info{name, n})
		}
		slices.SortFunc(d.list, func(a, b info) int { return strings.Compare(a.name, b.name) })
	}
	return d.list
}
