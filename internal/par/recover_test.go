package par

import (
	"context"
	"strings"
	"testing"
)

func TestPanicsOfAllGoroutinesAreHandedOn(t *testing.T) {
	type handed struct {
		value any
		stack string
	}
	c := make(chan handed, 1)
	OnPanic(func(v any, stack []byte) {
		c <- handed{v, string(stack)}
		select {} // as if the program had ended
	})
	t.Cleanup(func() { OnPanic(nil) })
	panicking := func(yield func(int, error) bool) { panic("sequence") }
	work := func(context.Context, int) (int, error) { panic("worker") }
	for want, run := range map[string]func(){
		"worker":   func() { Map(t.Context(), 2, 2, count(1), work)(func(int, error) bool { return true }) },
		"sequence": func() { Map(t.Context(), 2, 2, panicking, work)(func(int, error) bool { return true }) },
	} {
		go run()
		if got := <-c; got.value != want || !strings.Contains(got.stack, "recover_test.go") {
			t.Errorf("got %v, want %s\n%s", got.value, want, got.stack)
		}
	}
}
