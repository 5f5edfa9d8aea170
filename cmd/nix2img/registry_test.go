package main

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A registry may be as slow as it likes, as long as it does something.
func TestIdleConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		conn := idleConn{ours, time.Minute}
		go func() {
			for range 10 {
				time.Sleep(50 * time.Second)
				theirs.Write([]byte("x"))
			}
		}()
		if b, err := io.ReadAll(io.LimitReader(conn, 10)); err != nil || len(b) != 10 {
			t.Errorf("slow: %q, %v", b, err)
		}
		start := time.Now()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("silent: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("deaf: %v after %v", err, time.Since(start))
		}
	})
}
