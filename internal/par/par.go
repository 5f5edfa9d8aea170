// Package par has the one shape of concurrency of this module:
// a bounded parallel map that keeps order.
package par

import (
	"context"
	"iter"
	"runtime"
	"sync"
)

// Workers returns how many goroutines n asks for: GOMAXPROCS if n is not positive.
func Workers(n int) int {
	if n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

type result[Out any] struct {
	out Out
	err error
}

type job[In, Out any] struct {
	in   In
	done chan<- result[Out]
}

// Map calls f for every item of seq, on up to workers goroutines,
// and yields the results in the order of the items.
// At most window items are taken from seq ahead of the one that is yielded next.
//
// The first error by position, be it seq's or f's, is the last thing that is yielded;
// what had begun behind it is cancelled and dropped.
// seq runs on a goroutine of its own.
// When the iteration has ended, for whatever reason, so have all goroutines.
func Map[In, Out any](
	ctx context.Context, workers, window int,
	seq iter.Seq2[In, error], f func(context.Context, In) (Out, error),
) iter.Seq2[Out, error] {
	return func(yield func(Out, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()

		// An item's result comes through one of the slots, which are used in turn.
		// A slot's turn comes again when free has a token for it,
		// so the channels below never block who sends to them.
		slots := make([]chan result[Out], window)
		for i := range slots {
			slots[i] = make(chan result[Out], 1)
		}
		free := make(chan struct{}, window)
		for range window {
			free <- struct{}{}
		}
		jobs := make(chan job[In, Out], window)
		order := make(chan chan result[Out], window)

		running.Go(func() {
			defer Recover()
			defer close(order)
			defer close(jobs)
			next, started := 0, 0
			for in, err := range seq {
				select {
				case <-free:
				case <-ctx.Done():
					return
				}
				slot := slots[next%window]
				next++
				order <- slot
				if err != nil {
					slot <- result[Out]{err: err}
					return
				}
				jobs <- job[In, Out]{in, slot}
				if started < workers {
					started++
					running.Go(func() {
						defer Recover()
						for j := range jobs {
							if err := ctx.Err(); err != nil {
								j.done <- result[Out]{err: err}
								continue
							}
							out, err := f(ctx, j.in)
							j.done <- result[Out]{out, err}
						}
					})
				}
			}
		})

		for slot := range order {
			r := <-slot
			if r.err == nil {
				// What has been cancelled must not pass for finished.
				r.err = ctx.Err()
			}
			if r.err != nil {
				cancel()
				var zero Out
				yield(zero, r.err)
				return
			}
			if !yield(r.out, nil) {
				return
			}
			free <- struct{}{}
		}
		if err := ctx.Err(); err != nil {
			var zero Out
			yield(zero, err)
		}
	}
}
