package par

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func count(n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

func TestOrder(t *testing.T) {
	for _, workers := range []int{1, 2, 7, 64} {
		for _, window := range []int{1, 2, 100} {
			synctest.Test(t, func(t *testing.T) {
				next := 0
				for out, err := range Map(t.Context(), workers, window, count(500), func(_ context.Context, i int) (int, error) {
					time.Sleep(time.Duration((i*7919)%13) * time.Millisecond)
					return i * i, nil
				}) {
					if err != nil || out != next*next {
						t.Fatalf("workers %d: result %d is %d, %v", workers, next, out, err)
					}
					next++
				}
				if next != 500 {
					t.Errorf("workers %d, window %d: %d results", workers, window, next)
				}
			})
		}
	}
}

func TestFirstErrorByPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last error
		n := 0
		for _, err := range Map(t.Context(), 8, 16, count(100), func(ctx context.Context, i int) (int, error) {
			switch i {
			case 20: // fails late
				time.Sleep(time.Hour)
				return 0, errors.New("at 20")
			case 21, 22: // fail early, but stand behind
				return 0, fmt.Errorf("at %d", i)
			}
			return i, nil
		}) {
			if err != nil {
				last = err
				continue
			}
			n++
		}
		if last == nil || last.Error() != "at 20" || n != 20 {
			t.Errorf("got %v after %d results", last, n)
		}
	})
}

func TestErrorOfSequence(t *testing.T) {
	bad := errors.New("bad")
	seq := func(yield func(int, error) bool) {
		_ = yield(1, nil) && yield(0, bad)
	}
	var got []string
	for out, err := range Map(t.Context(), 2, 4, seq, func(_ context.Context, i int) (int, error) { return i, nil }) {
		got = append(got, fmt.Sprint(out, err))
	}
	if fmt.Sprint(got) != "[1<nil> 0bad]" && fmt.Sprint(got) != "[1 <nil> 0 bad]" {
		t.Errorf("got %q", got)
	}
}

// A consumer that leaves, and a context that ends, must leave no goroutine behind:
// synctest.Test would not return.
func TestNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		double := func(_ context.Context, i int) (int, error) { return 2 * i, nil }
		inner := Map(t.Context(), 3, 5, count(1000), double)
		n := 0
		for range Map(t.Context(), 3, 5, inner, double) {
			if n++; n == 10 {
				break
			}
		}

		ctx, cancel := context.WithCancel(t.Context())
		var err error
		for _, err = range Map(ctx, 2, 4, count(1000), func(_ context.Context, i int) (int, error) {
			if i == 50 {
				cancel()
			}
			return i, nil
		}) {
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled map ends with %v", err)
		}
	})
}

func TestWindowBoundsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken, yielded, most atomic.Int64
		seq := func(yield func(int, error) bool) {
			for i := range 1000 {
				most.Store(max(most.Load(), taken.Add(1)-yielded.Load()))
				if !yield(i, nil) {
					return
				}
			}
		}
		for range Map(t.Context(), 4, 10, seq, func(_ context.Context, i int) (int, error) { return i, nil }) {
			time.Sleep(time.Millisecond)
			yielded.Add(1)
		}
		// One more is being yielded, and one more waits for its place.
		if most.Load() > 12 {
			t.Errorf("%d items in flight, want at most 12", most.Load())
		}
	})
}
