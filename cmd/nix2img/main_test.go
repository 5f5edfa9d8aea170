package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"nix2img": main,
		// a nix2img that panics, on one goroutine or another, when it needs a network
		"nix2img-bug": func() {
			http.DefaultTransport = buggyTransport{}
			main()
		},
	})
}

type buggyTransport struct{}

func (buggyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if path.Base(r.URL.Path) != "nix-cache-info" {
		panic("no\x1bsuch road")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

// TestScript runs the scripts in testdata/script.
// Beside testscript's own commands they have
//
//	mkstore [-big] DIR make a store below DIR with the objects of testStore;
//	                   its metadata go to DIR/path-info.json and DIR/registration,
//	                   and all of it to DIR/export; if it is big, building takes some time
//	mkcache STORE DIR  make a binary cache, unsigned, of such a store
//	mode FILE OCTAL    compare a file's permissions
//	valid KIND         compare what a command has printed with the JSON schema of its kind
//	code N CMD...      run a command and compare its exit code
//	signal SIG DIR CMD...
//	                   run a command, send it the signal (INT, TERM or KILL)
//	                   as soon as it has a temporary file in DIR, and wait for its end;
//	                   its exit code goes to the file code, its standard error to stderr.txt
//	registry [FAULT]   have the registry at $REGISTRY fail in one of the ways of registryFaults, or no more
//	referrers REPOSITORY FILE TYPE
//	                   expect a document of the type about the image whose name is in FILE
//	mklayout DIR       make an OCI layout with an image of chance
//	validate DIR       have go-containerregistry check each digest in a layout
//	authfile FILE KEY USER:PASSWORD
//	                   write a file of credentials
//	received none|some compare what blobs have come to the registry since the last time
//
// and the variables $LIB, $APP, $HELLO: two store paths, and the stream that ships with the project.
func TestScript(t *testing.T) {
	hello, err := filepath.Abs("../../testdata/hello.export")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("LIB", storeLib)
			env.Setenv("APP", storeApp)
			env.Setenv("HELLO", hello)
			env.Setenv("TMPDIR", env.WorkDir+"/tmp")
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/caches")
			env.Setenv("TZ", "Asia/Kathmandu")
			env.Setenv("NIX2IMG_CONFIG", os.DevNull) // not that of who runs the tests
			reg := registrytest.New(t)
			env.Values[registryKey{}] = reg
			env.Setenv("REGISTRY", reg.Host)
			return os.MkdirAll(env.WorkDir+"/tmp", 0o777)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"mkstore": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(testStore(ts.MkAbs(args[len(args)-1]), len(args) > 1))
			},
			"mkcache": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(makeCache(ts.MkAbs(args[0]), ts.MkAbs(args[1])))
			},
			"mode": func(ts *testscript.TestScript, neg bool, args []string) {
				info, err := os.Lstat(ts.MkAbs(args[0]))
				ts.Check(err)
				if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
					ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
				}
			},
			"registry": func(ts *testscript.TestScript, neg bool, args []string) {
				reg := ts.Value(registryKey{}).(*registrytest.Registry)
				if len(args) == 0 {
					reg.SetFault(nil)
					return
				}
				fault, ok := registryFaults[args[0]]
				if !ok {
					ts.Fatalf("unknown fault %s", args[0])
				}
				reg.SetFault(func(w http.ResponseWriter, r *http.Request) bool { return fault(reg, w, r) })
			},
			"referrers": func(ts *testscript.TestScript, neg bool, args []string) {
				_, digest, _ := strings.Cut(strings.TrimSpace(ts.ReadFile(args[1])), "@")
				subject, err := name.NewDigest(ts.Getenv("REGISTRY") + "/" + args[0] + "@" + digest)
				ts.Check(err)
				index, err := ggcr.Referrers(subject, ggcr.WithFilter("artifactType", args[2]))
				ts.Check(err)
				list, err := index.IndexManifest()
				ts.Check(err)
				if (len(list.Manifests) == 1) == neg {
					ts.Fatalf("%s has %d referrers", subject, len(list.Manifests))
				}
			},
			"mklayout": func(ts *testscript.TestScript, neg bool, args []string) {
				img, err := random.Image(100_000, 3)
				ts.Check(err)
				made, err := layout.Write(ts.MkAbs(args[0]), empty.Index)
				ts.Check(err)
				ts.Check(made.AppendImage(img))
			},
			"validate": func(ts *testscript.TestScript, neg bool, args []string) {
				index, err := layout.ImageIndexFromPath(ts.MkAbs(args[0]))
				ts.Check(err)
				if err := validate.Index(index); (err == nil) == neg {
					ts.Fatalf("validate %s: %v", args[0], err)
				}
			},
			"authfile": func(ts *testscript.TestScript, neg bool, args []string) {
				auth := base64.StdEncoding.EncodeToString([]byte(args[2]))
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, args[1], auth), 0o600))
			},
			"received": func(ts *testscript.TestScript, neg bool, args []string) {
				n, _ := ts.Value(registryKey{}).(*registrytest.Registry).Reset()
				if (args[0] == "none") != (n == 0) {
					ts.Fatalf("the registry has received %d bytes, want %s", n, args[0])
				}
			},
			"signal": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(signalBuild(ts, args[0], ts.MkAbs(args[1]), args[2], args[3:]))
			},
			"code":  checkCode,
			"valid": checkSchema,
		},
	})
}

// checkSchema compares what the last command has printed with the schema of its kind.
func checkSchema(ts *testscript.TestScript, neg bool, args []string) {
	kind, err := validateJSON([]byte(ts.ReadFile("stdout")))
	ts.Check(err)
	if kind != args[0] {
		ts.Fatalf("it is of kind %q", kind)
	}
}

// checkCode runs a command and compares its exit code.
func checkCode(ts *testscript.TestScript, neg bool, args []string) {
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

type registryKey struct{}

// registryFaults are ways in which the registry of a script can fail.
var registryFaults = map[string]func(reg *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool{
	"down": func(_ *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Retry-After", "300") // longer than one waits
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	},
	"locked": func(_ *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "me" && password == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	},
	// manifests that have a subject are refused
	"norecords": func(_ *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		refused := bytes.Contains(body, []byte(`"subject"`))
		if refused {
			w.WriteHeader(http.StatusBadRequest)
		}
		return refused
	},
	// large blobs have another byte
	"lying": func(reg *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool {
		rec := httptest.NewRecorder()
		reg.Serve(rec, r)
		maps.Copy(w.Header(), rec.Header())
		body := rec.Body.Bytes()
		if len(body) > 10_000 {
			body[len(body)/2] ^= 1
		}
		w.WriteHeader(rec.Code)
		w.Write(body)
		return true
	},
}

func signalBuild(ts *testscript.TestScript, signal, dir, name string, args []string) error {
	path := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], name) // where testscript puts its commands
	var stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stderr = ts.MkAbs("."), &stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+ts.Getenv("TMPDIR"))
	if err := cmd.Start(); err != nil {
		return err
	}
	for range 1000 {
		if m, _ := filepath.Glob(filepath.Join(dir, ".nix2img-*.tmp")); len(m) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	sig := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[signal]
	if err := cmd.Process.Signal(sig); err != nil {
		return err
	}
	cmd.Wait() // the exit code tells
	code := fmt.Sprintln(cmd.ProcessState.ExitCode())
	if err := os.WriteFile(ts.MkAbs("code"), []byte(code), 0o666); err != nil {
		return err
	}
	return os.WriteFile(ts.MkAbs("stderr.txt"), stderr.Bytes(), 0o666)
}

const (
	storeLib = "/nix/store/0000000000000000000000000000000a-greeting-1.0"
	storeApp = "/nix/store/0000000000000000000000000000000b-greeter-1.0"
)

// testStore makes a store of two objects. The program is for amd64, but would do nothing.
func testStore(dir string, big bool) error {
	program := make([]byte, 64) // a header of ELF without segments
	copy(program, "\x7fELF\x02\x01\x01")
	for off, v := range map[int]uint16{16: 2, 18: 62, 20: 1, 52: 64, 54: 56, 58: 64} {
		binary.LittleEndian.PutUint16(program[off:], v)
	}
	store := filepath.Join(dir, "nix/store")
	app, lib := filepath.Join(dir, storeApp), filepath.Join(dir, storeLib)
	var err error
	file := func(mode fs.FileMode, data []byte, name ...string) {
		path := filepath.Join(name...)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o777)
		}
		if err == nil {
			err = os.WriteFile(path, data, mode)
		}
		if err == nil {
			err = os.Chmod(path, mode)
		}
	}
	file(0o555, program, app, "bin/greeter")
	file(0o444, []byte("names\n"), app, "share/a\nb\xff\"c")
	file(0o444, bytes.Repeat([]byte("hello world "), 50000), lib, "greeting")
	file(0o444, make([]byte, 300000), lib, "zeros")
	if big {
		noise := make([]byte, 64<<20)
		rand.NewChaCha8([32]byte{}).Read(noise)
		file(0o444, noise, lib, "noise")
	}
	if err == nil {
		err = os.Symlink(storeLib+"/greeting", filepath.Join(app, "share/greeting"))
	}
	if err == nil {
		err = os.Symlink(storeApp, filepath.Join(dir, "result"))
	}
	if err != nil {
		return err
	}

	files := closure.DirFS(store)
	type info struct {
		Path       closure.Path   `json:"path"`
		NARHash    string         `json:"narHash"`
		NARSize    int64          `json:"narSize"`
		References []closure.Path `json:"references"`
	}
	var infos []info
	var registration, export bytes.Buffer
	for _, o := range []info{{Path: storeLib, References: []closure.Path{}}, {Path: storeApp, References: []closure.Path{storeLib, storeApp}}} {
		hash, size, err := narhash.Sum(context.Background(), files, o.Path.Base())
		if err != nil {
			return err
		}
		o.NARHash, o.NARSize = hash.String(), size
		infos = append(infos, o)

		fmt.Fprintf(&registration, "%s\n%s\n%d\n\n%d\n", o.Path, o.NARHash, o.NARSize, len(o.References))
		for _, ref := range o.References {
			fmt.Fprintln(&registration, ref)
		}

		export.Write(number(1))
		if err := nar.Dump(&export, files, o.Path.Base()); err != nil {
			return err
		}
		export.Write(slices.Concat(number(0x4558494e), text(string(o.Path)), number(len(o.References))))
		for _, ref := range o.References {
			export.Write(text(string(ref)))
		}
		export.Write(slices.Concat(text(""), number(0)))
	}
	export.Write(number(0))

	pathInfo, err := json.MarshalIndent(infos, "", "  ")
	if err != nil {
		return err
	}
	file(0o644, pathInfo, dir, "path-info.json")
	file(0o644, registration.Bytes(), dir, "registration")
	file(0o644, export.Bytes(), dir, "export")
	return err
}

func number(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

func text(s string) []byte {
	return append(append(number(len(s)), s...), make([]byte, -len(s)&7)...)
}
