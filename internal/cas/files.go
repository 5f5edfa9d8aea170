package cas

import (
	"os"
	"sync"
)

// maxOpen is how many files of a store are kept open.
const maxOpen = 24

// openFiles are files of entries that are open: those in use, and of the others the ones used last.
type openFiles struct {
	mu    sync.Mutex
	open  map[Key]*openFile
	clock int
}

type openFile struct {
	f     *os.File
	k     Key
	users int
	used  int  // when, by the clock
	loose bool // to be closed by its last user
}

// use returns the file of an entry, which open opens if it is not. It must be given back by done.
func (o *openFiles) use(k Key, open func() (*os.File, error)) (*openFile, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.open[k]
	if x == nil {
		o.trim(maxOpen - 1)
		f, err := open()
		if err != nil {
			return nil, err
		}
		if o.open == nil {
			o.open = make(map[Key]*openFile)
		}
		x = &openFile{f: f, k: k}
		o.open[k] = x
	}
	o.clock++
	x.users, x.used = x.users+1, o.clock
	return x, nil
}

func (o *openFiles) done(x *openFile) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if x.users--; x.users == 0 && x.loose {
		x.f.Close()
	}
}

// trim closes files that nobody uses until n are open.
func (o *openFiles) trim(n int) {
	for len(o.open) > n {
		var oldest *openFile
		for _, x := range o.open {
			if x.users == 0 && (oldest == nil || x.used < oldest.used) {
				oldest = x
			}
		}
		if oldest == nil {
			return
		}
		oldest.f.Close()
		delete(o.open, oldest.k)
	}
}

// forget has the file of an entry opened anew the next time.
func (o *openFiles) forget(k Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.open[k]
	if x == nil {
		return
	}
	delete(o.open, k)
	if x.loose = true; x.users == 0 {
		x.f.Close()
	}
}

func (o *openFiles) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trim(0)
}
