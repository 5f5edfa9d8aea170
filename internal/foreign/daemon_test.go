//go:build foreign

package foreign

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// daemon runs a program until the test ends. It returns when the program is ready, according to a command that succeeds then.
func daemon(t testing.TB, ready []string, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(newDir(t), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s does not end", name)
			cmd.Process.Kill()
			<-ended
		}
	})
	var said []byte
	for range 300 {
		if said, err = exec.Command(ready[0], ready[1:]...).CombinedOutput(); err == nil {
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s has ended: %v\n%s", name, err, tail(t, log.Name()))
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("%s is not ready: %s\n%s", name, said, tail(t, log.Name()))
}

// runDir makes a directory for sockets and the like: its name must be short.
func runDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "nix2img-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// tail is the end of a log.
func tail(t testing.TB, name string) []byte {
	lines := bytes.SplitAfter(readFile(t, name), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-20):], nil)
}
