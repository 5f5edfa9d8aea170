package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// beBatch tells the scheduler that nobody waits for any single thread of this process (SCHED_BATCH, see sched(7)):
// one that wakes up does not take the core from one that is compressing, and its caches with it.
// The runtime's own monitor wakes up every 20 microseconds while libzstd is at work,
// which costs a build some 13 percent otherwise. Who has chosen another policy, keeps it.
//
// Threads are begun with the policy of the one that begins them, so those that there are now are enough.
func beBatch() {
	done := make(map[string]bool)
	for again := true; again; {
		again = false
		threads, _ := os.ReadDir("/proc/self/task")
		for _, t := range threads {
			if done[t.Name()] {
				continue
			}
			done[t.Name()], again = true, true
			id, _ := strconv.Atoi(t.Name())
			attr, err := unix.SchedGetAttr(id, 0)
			if err != nil || attr.Policy != unix.SCHED_NORMAL {
				continue
			}
			attr.Policy = unix.SCHED_BATCH
			unix.SchedSetAttr(id, attr, 0) // if not, it is just slower
		}
	}
}
