package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nix2img/nix2img/closure/nixdb"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/squashfs"
)

// versionLine starts a program and returns the first line with a number in it that it prints, wherever it prints it.
func versionLine(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if versionNumber.MatchString(line) {
			return strings.TrimSpace(line), err
		}
	}
	return "", err
}

func (d *doctor) examineSelf() {
	d.found("nix2img", "nix2img", stateOK, image.Version)
	const topic, name = "nix2img", "zstd"
	if _, err := (&squashfs.Options{Compression: squashfs.Compression{Codec: "zstd"}}).Complete(); err != nil {
		d.found(topic, name, stateAbsent, "this program was built without cgo").Hint = "zstd-go is the same format from another library, and slower"
		return
	}
	d.found(topic, name, stateOK, "libzstd is built in")
}

// A containerRuntime is a program that starts images.
type containerRuntime struct {
	program string
	// reads says which images a version reads.
	reads func(version string) string
}

var containerRuntimes = []containerRuntime{
	{"singularity", singularityReads},
	{"apptainer", apptainerReads},
	{"enroot", func(string) string { return "squashfs (gzip, and what the kernel reads)" }},
	{"ch-run", func(string) string { return "squashfs, if it was built with squashfuse, and directories" }},
	{"podman", func(string) string { return "OCI layouts and archives" }},
	{"docker", func(string) string { return "docker archives" }},
	{"nerdctl", func(string) string { return "OCI archives" }},
	{"squashfuse", func(string) string { return "squashfs, without root" }},
}

func singularityReads(version string) string {
	reads := "SIF (gzip, lz4, xz; not zstd)"
	if atLeast(version, 4, 0) {
		reads += ", OCI-SIF with --oci"
	}
	return reads
}

func apptainerReads(version string) string {
	if atLeast(version, 1, 4) {
		return "SIF (gzip, lz4, xz, zstd)"
	}
	return "SIF (gzip, lz4, xz; zstd from 1.4 on)"
}

var versionNumber = regexp.MustCompile(`(\d+)\.(\d+)(\.\d+)*`)

// atLeast reports whether the first version in a text is one, or a later one.
func atLeast(text string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(versionNumber.FindString(text), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

func (d *doctor) examineRuntimes(ctx context.Context) {
	const topic = "runtimes"
	none := true
	for _, r := range containerRuntimes {
		args := map[string][]string{"enroot": {"version"}}[r.program]
		if args == nil {
			args = []string{"--version"}
		}
		line, err := d.run(ctx, r.program, args...)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		none = false
		version := versionNumber.FindString(line)
		switch {
		case version != "": // some have an exit code other than 0
			d.found(topic, r.program, stateOK, version+": "+r.reads(version))
		case err != nil:
			d.found(topic, r.program, stateProblem, fmt.Sprintf("it does not say its version: %v", err))
		default:
			d.found(topic, r.program, stateUnknown, fmt.Sprintf("it does not say its version: %q", line))
		}
	}
	if none {
		d.found(topic, "runtimes", stateAbsent, "none on PATH; on a cluster, it may take: module load singularity")
	}
}

// squashfsCodecs are the kernel's options by the codecs that they are for.
var squashfsCodecs = []struct{ codec, option string }{
	{"gzip", "CONFIG_SQUASHFS_ZLIB"}, {"lz4", "CONFIG_SQUASHFS_LZ4"}, {"xz", "CONFIG_SQUASHFS_XZ"}, {"zstd", "CONFIG_SQUASHFS_ZSTD"},
}

func (d *doctor) examineKernel() {
	const topic = "kernel"
	release := d.file("/proc/sys/kernel/osrelease")
	config := d.kernelConfig(release)
	switch {
	case config == nil:
		if strings.Contains(d.file("/proc/filesystems"), "squashfs") {
			d.found(topic, "squashfs", stateOK, "the kernel mounts it; which codecs it reads is not known")
		} else {
			d.found(topic, "squashfs", stateUnknown, "not loaded, and the kernel's configuration cannot be read")
		}
	case config["CONFIG_SQUASHFS"] == "":
		d.found(topic, "squashfs", stateAbsent, release+" was built without it").Hint = "runtimes mount images by squashfuse then"
	default:
		var codecs []string
		for _, c := range squashfsCodecs {
			if config[c.option] != "" {
				codecs = append(codecs, c.codec)
			}
		}
		d.found(topic, "squashfs", stateOK, release+" reads "+strings.Join(codecs, ", "))
	}
	d.examineNamespaces()
	if d.has("/dev/fuse") {
		d.found(topic, "FUSE", stateOK, "/dev/fuse")
	} else {
		d.found(topic, "FUSE", stateAbsent, "there is no /dev/fuse, so nothing can be mounted without root")
	}
}

// examineNamespaces finds out whether users may have root in a namespace of their own, which rootless runtimes need.
func (d *doctor) examineNamespaces() {
	const topic, name = "kernel", "user namespaces"
	restricted := func(detail, hint string) { d.found(topic, name, stateProblem, detail).Hint = hint }
	switch {
	case d.file("/proc/sys/user/max_user_namespaces") == "0":
		restricted("switched off", "sysctl user.max_user_namespaces says how many there may be")
	case d.file("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		restricted("for root alone", "sysctl kernel.unprivileged_userns_clone=1 lets others have them")
	case d.file("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		restricted("only for programs that AppArmor knows", "runtimes bring a profile for themselves")
	case d.file("/proc/sys/user/max_user_namespaces") == "":
		d.found(topic, name, stateUnknown, "the kernel does not say")
	default:
		d.found(topic, name, stateOK, "runtimes need no root")
	}
}

// kernelConfig returns the options that are set in the kernel's configuration, or nil if it cannot be read.
func (d *doctor) kernelConfig(release string) map[string]string {
	for _, name := range []string{"/proc/config.gz", "/boot/config-" + release, "/lib/modules/" + release + "/config"} {
		f, err := os.Open(filepath.Join(d.root, name))
		if err != nil {
			continue
		}
		defer f.Close()
		var r io.Reader = f
		if strings.HasSuffix(name, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				continue
			}
		}
		options := make(map[string]string)
		for s := bufio.NewScanner(io.LimitReader(r, 16<<20)); s.Scan(); {
			if key, value, ok := strings.Cut(s.Text(), "="); ok {
				options[key] = value
			}
		}
		return options
	}
	return nil
}

func (d *doctor) examineNix(ctx context.Context) {
	const topic = "nix"
	line, err := d.run(ctx, "nix", "--version")
	if err != nil {
		d.found(topic, "nix", stateAbsent, "not on PATH: store paths and binary caches can be packed all the same, flake references cannot")
	} else {
		d.found(topic, "nix", stateOK, versionNumber.FindString(line))
	}
	if !d.has("/nix/var/nix/db/db.sqlite") {
		d.found(topic, "store", stateAbsent, "there is no /nix/var/nix/db").Hint = "--from URL takes closures from binary caches, --store DIR from a store elsewhere"
	} else if store, err := nixdb.OpenStore(d.root); err != nil {
		d.found(topic, "store", stateProblem, err.Error())
	} else {
		d.found(topic, "store", stateOK, store.Dir()+", read without Nix")
		store.Close()
	}
	conf, err := readNixConf()
	if err != nil {
		d.found(topic, "nix.conf", stateProblem, err.Error())
		return
	}
	var keys []string
	for _, key := range conf.keys {
		name, _, _ := strings.Cut(key, ":")
		keys = append(keys, name)
	}
	d.found(topic, "binary caches", stateOK, strings.Join(conf.substituters, ", "))
	d.found(topic, "trusted keys", stateOK, strings.Join(keys, ", "))
	if info, err := os.Stat(conf.netrcFile); err == nil {
		f := d.found(topic, "netrc", stateOK, conf.netrcFile)
		if info.Mode()&0o044 != 0 {
			f.State, f.Hint = stateProblem, "others can read the passwords in it: chmod go-rwx "+conf.netrcFile
		}
	}
}

func (d *doctor) examineCache() {
	const topic = "cache"
	dir, err := d.caching.dir, error(nil)
	if dir == "" {
		dir, err = defaultCache()
	}
	if err != nil {
		d.found(topic, "cache", stateProblem, err.Error()).Hint = "--cache names one"
		return
	}
	if _, err := os.Stat(dir); dir == "" || err != nil {
		d.found(topic, "cache", stateAbsent, strings.TrimSpace(dir+" will be made by the first build"))
		return
	}
	c, err := cache.Open(dir, cache.Own)
	if err != nil {
		f := d.found(topic, "cache", stateProblem, err.Error())
		if is[*cache.TrustError](err) {
			f.Hint = "chmod go-w " + dir + ", or --trust-cache if you trust all who can write to it"
		}
		return
	}
	defer c.Close()
	info, err := c.Info()
	if err != nil {
		d.found(topic, "cache", stateProblem, err.Error())
		return
	}
	d.found(topic, "cache", stateOK, fmt.Sprintf("%s: %s, %s", dir, strconv.Itoa(info.Entries)+" entries", formatSize(info.Size)))
}

func (d *doctor) examineDrivers() {
	const topic = "drivers"
	if version := versionNumber.FindString(d.file("/proc/driver/nvidia/version")); version != "" {
		f := d.found(topic, "NVIDIA", stateOK, "driver "+version+d.models())
		if !d.has("/dev/nvidiactl") {
			f.State, f.Hint = stateProblem, "there is no /dev/nvidiactl: the job has no GPU, or nvidia-modprobe has not run"
		} else {
			f.Hint = "nix2img gpu --driver " + version + " --for GPU ... says what will run with it"
		}
	} else {
		d.found(topic, "NVIDIA", stateAbsent, "no driver is loaded")
	}
	switch {
	case !d.has("/sys/module/amdgpu"):
		d.found(topic, "AMD", stateAbsent, "no driver is loaded")
	case !d.has("/dev/kfd"):
		d.found(topic, "AMD", stateProblem, "amdgpu is loaded, but there is no /dev/kfd").Hint = "ROCm needs it: the job has no GPU, or the kernel was built without it"
	default:
		d.found(topic, "AMD", stateOK, strings.TrimSpace("amdgpu "+d.file("/sys/module/amdgpu/version")))
	}
}

// models lists NVIDIA's GPUs by their names.
func (d *doctor) models() string {
	files, _ := filepath.Glob(filepath.Join(d.root, "/proc/driver/nvidia/gpus/*/information"))
	var names []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(line, "Model:"); ok {
				names = append(names, strings.TrimSpace(name))
			}
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return ""
	}
	return ", " + strings.Join(slices.Compact(names), ", ")
}
