//go:build foreign && acceptance

package foreign

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slurm starts a Slurm of two nodes on this machine, which ends with the test,
// and returns the environment that its commands need.
func slurm(t testing.TB) []string {
	t.Helper()
	dir := newDir(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "slurm.conf")
	writeFile(t, conf, fmt.Appendf(nil, `
ClusterName=nix2img
SlurmctldHost=%[1]s(127.0.0.1)
SlurmctldPort=%[2]d
SlurmUser=root
AuthInfo=socket=%[3]s/munge.socket
StateSaveLocation=%[3]s/state
SlurmdSpoolDir=%[3]s/%%n
TmpFS=%[3]s/tmp.%%n
SlurmctldPidFile=%[3]s/slurmctld.pid
SlurmdPidFile=%[3]s/slurmd.%%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SchedulerType=sched/builtin
MpiDefault=none
MailProg=/bin/true
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[4]d CPUs=8
NodeName=n2 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[5]d CPUs=8
PartitionName=all Nodes=ALL Default=YES
`, host, freePort(t), dir, freePort(t), freePort(t)))
	for _, name := range []string{"state", "n1", "n2", "tmp.n1", "tmp.n2"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	env := append(os.Environ(), "SLURM_CONF="+conf, "PATH="+filepath.Dir(nix2img)+":"+os.Getenv("PATH"))

	output(t, "mungekey", "--create", "--keyfile="+dir+"/munge.key")
	daemon := func(name string, args ...string) {
		t.Helper()
		var log bytes.Buffer
		cmd := exec.Command(name, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			timer := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
			defer timer.Stop()
			cmd.Wait()
			if t.Failed() {
				t.Logf("%s %s:\n%s", name, strings.Join(args, " "), log.Bytes())
			}
		})
	}
	daemon("munged", "--foreground", "--key-file="+dir+"/munge.key", "--socket="+dir+"/munge.socket",
		"--pid-file="+dir+"/munged.pid", "--log-file="+dir+"/munged.log", "--seed-file="+dir+"/munge.seed")
	waitFor(t, "munged", func() bool { _, err := os.Stat(dir + "/munge.socket"); return err == nil })
	daemon("slurmctld", "-D")
	daemon("slurmd", "-D", "-N", "n1")
	daemon("slurmd", "-D", "-N", "n2")
	waitFor(t, "two idle nodes", func() bool {
		cmd := exec.Command("sinfo", "--noheader", "--Node", "--format=%T")
		cmd.Env = env
		out, _ := cmd.Output()
		return string(out) == "idle\nidle\n"
	})
	return env
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func waitFor(t testing.TB, what string, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ready(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within a minute", what)
		}
	}
}

// The example jobs warm a cache on two nodes of a Slurm, and in a job array.
// The image that is then put together is that of any other build.
func TestSlurm(t *testing.T) {
	env := slurm(t)
	dir := newDir(t)
	small := os.Getenv("SMALL")
	want := digest(t, build(t, "--sif", small))
	paths := len(closurePaths(t, "", small))
	submit := func(cache string, args ...string) string {
		t.Helper()
		cmd := exec.Command("sbatch", append([]string{"--parsable"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(env, "CACHE="+filepath.Join(dir, cache))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			logs, _ := exec.Command("sh", "-c", "tail -n 50 "+dir+"/*.log").CombinedOutput()
			t.Fatalf("sbatch %s: %v\n%s\n%s", strings.Join(args, " "), err, stderr.Bytes(), logs)
		}
		return strings.TrimSpace(string(out))
	}
	check := func(cache, image string) {
		t.Helper()
		if digest(t, filepath.Join(dir, image)) != want {
			t.Errorf("%s: other bytes", image)
		}
		cache = filepath.Join(dir, cache)
		if n := len(entries(t, cache)); n != paths {
			t.Errorf("%s: %d segments of %d paths", cache, n, paths)
		}
		mustBeSound(t, cache)
	}
	jobs := filepath.Join(module, "examples/slurm")

	submit("nodes", "--wait", "--nodes=2", "--output=nodes.log", jobs+"/warm.sbatch", "nodes.sif", small)
	check("nodes", "nodes.sif")
	total := 0
	log := string(readFile(t, filepath.Join(dir, "nodes.log")))
	for line := range strings.Lines(log) {
		var task, n, of int
		if _, err := fmt.Sscanf(line, "%d: nix2img: compressed %d of %d", &task, &n, &of); err == nil {
			total += n
			if n == 0 || n == paths {
				t.Errorf("task %d compressed %d paths", task, n)
			}
		}
	}
	if total != paths {
		t.Errorf("the tasks compressed %d paths, want each of the %d once:\n%s", total, paths, log)
	}

	array := submit("array", "--output=array.%a.log", jobs+"/warm-array.sbatch", small)
	submit("array", "--wait", "--dependency=afterok:"+array, "--output=array.log",
		"--wrap", `nix2img build --cache "$CACHE" -o array.sif `+small)
	check("array", "array.sif")
	last := string(readFile(t, filepath.Join(dir, "array.7.log")))
	if !strings.Contains(last, "compressed") {
		t.Errorf("the last task of the array says %q", last)
	}
}
