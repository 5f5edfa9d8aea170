package inspect

import (
	"errors"
	"iter"
)

// A pass is one inspector's look into a file whose contents are still coming.
//
// The inspector runs as a coroutine of who brings them: it reads on until it needs more than has come,
// and goes on when there is more. So two never run at the same time, and nothing is buffered between them.
type pass struct {
	resume func() (struct{}, bool)
	stop   func()
	wait   func(struct{}) bool // within the coroutine; false: there will be no more
	came   []byte              // and has not been read

	finding any
	err     error
	done    bool
}

// errStopped is what an inspector reads when the rest of a file does not come.
var errStopped = errors.New("the rest of the file has not come")

// begin begins a look, which runs until it needs contents.
func begin(look func(*pass) (any, error)) *pass {
	p := new(pass)
	p.resume, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.wait = yield
		p.finding, p.err = look(p)
	})
	p.more(nil)
	return p
}

// more brings contents. They are not used after it has returned.
func (p *pass) more(b []byte) {
	if p.done {
		return
	}
	p.came = b
	if _, waits := p.resume(); !waits {
		p.done = true
	}
	p.came = nil
}

func (p *pass) read(b []byte) (int, error) {
	for len(p.came) == 0 {
		if !p.wait(struct{}{}) {
			return 0, errStopped
		}
	}
	n := copy(b, p.came)
	p.came = p.came[n:]
	return n, nil
}

func (p *pass) skip(n int64) error {
	for {
		k := min(n, int64(len(p.came)))
		p.came = p.came[k:]
		if n -= k; n == 0 {
			return nil
		}
		if !p.wait(struct{}{}) {
			return errStopped
		}
	}
}
