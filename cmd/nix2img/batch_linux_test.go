package main

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBatch(t *testing.T) {
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil || before.Policy != unix.SCHED_NORMAL && before.Policy != unix.SCHED_BATCH {
		t.Skipf("the tests have policy %+v, %v", before, err)
	}
	if err := unix.SchedSetAttr(0, before, 0); err != nil {
		t.Skipf("nobody may set it here: %v", err)
	}
	beBatch()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		after, err := unix.SchedGetAttr(id, 0)
		if errors.Is(err, unix.ESRCH) { // it has ended
			continue
		}
		if err != nil || after.Policy != unix.SCHED_BATCH || after.Nice != before.Nice {
			t.Errorf("thread %d: %+v, %v", id, after, err)
		}
	}
}
