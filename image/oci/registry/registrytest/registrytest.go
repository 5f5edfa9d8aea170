// Package registrytest has a registry for tests: one that counts, keeps blobs in files,
// goes on with uploads that broke off, and fails as it is told.
//
// It refuses manifests of which it lacks a blob.
package registrytest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Registry is a registry that listens on loopback until the test ends, or it is closed.
type Registry struct {
	Host string // HOST:PORT, without TLS

	// Fault, if not nil, sees each request first, and says whether it has dealt with it.
	// It is not to be changed while requests are running.
	Fault func(w http.ResponseWriter, r *http.Request) bool
	// Chunks is false for a registry that takes blobs only whole.
	Chunks bool

	dir    string
	server *httptest.Server

	mu        sync.Mutex
	blobs     map[string]bool // REPOSITORY@DIGEST
	manifests map[string]manifest
	uploads   int

	received int64
	requests []string
}

type manifest struct {
	data []byte
	kind string
}

// New starts a registry. If t is nil, as in an example, it is to be closed, and what goes wrong is a panic.
func New(t testing.TB) *Registry {
	dir, err := os.MkdirTemp("", "registrytest-")
	if err != nil {
		panic(err)
	}
	r := &Registry{Chunks: true, dir: dir, blobs: make(map[string]bool), manifests: make(map[string]manifest)}
	r.server = httptest.NewServer(r)
	r.Host = strings.TrimPrefix(r.server.URL, "http://")
	if t != nil {
		t.Cleanup(r.Close)
	}
	return r
}

// Close ends a registry, and forgets its contents.
func (r *Registry) Close() {
	r.server.Close()
	os.RemoveAll(r.dir)
}

// Reset forgets what has been counted, and returns it: the bytes of blobs that came,
// and the requests, each as METHOD PATH.
func (r *Registry) Reset() (received int64, requests []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	received, requests = r.received, r.requests
	r.received, r.requests = 0, nil
	return received, requests
}

// Has reports whether a tag or digest leads to a manifest.
func (r *Registry) Has(repo, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.manifests[repo+":"+id]
	return ok
}

// Drop breaks a request's connection after so many bytes of its body have arrived, and been kept.
func (r *Registry) Drop(w http.ResponseWriter, req *http.Request, after int64) {
	if m := uploadPath.FindStringSubmatch(req.URL.Path); m != nil {
		if f, err := os.OpenFile(r.upload(m[2]), os.O_WRONLY|os.O_APPEND, 0); err == nil {
			n, _ := io.CopyN(f, req.Body, after)
			r.count(n)
			f.Close()
		}
	}
	Hangup(w)
}

// Hangup breaks a request's connection.
func Hangup(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	conn.Close()
}

var (
	blobPath     = regexp.MustCompile(`^/v2/(.+)/blobs/sha256:([0-9a-f]{64})$`)
	beginPath    = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/$`)
	uploadPath   = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/([0-9]+)$`)
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
)

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	fault := r.Fault
	r.mu.Unlock()
	if fault == nil || !fault(w, req) {
		r.Serve(w, req)
	}
}

// SetFault sets Fault while requests are being served.
func (r *Registry) SetFault(fault func(w http.ResponseWriter, req *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Fault = fault
}

// Serve answers a request without asking Fault.
func (r *Registry) Serve(w http.ResponseWriter, req *http.Request) {
	var err error
	path := req.URL.Path
	if m := blobPath.FindStringSubmatch(path); m != nil {
		err = r.blob(w, req, m[1], m[2])
	} else if m := beginPath.FindStringSubmatch(path); m != nil && req.Method == http.MethodPost {
		err = r.begin(w, req, m[1])
	} else if m := uploadPath.FindStringSubmatch(path); m != nil {
		err = r.receive(w, req, m[1], m[2])
	} else if m := manifestPath.FindStringSubmatch(path); m != nil {
		err = r.manifest(w, req, m[1], m[2])
	} else if path != "/v2/" {
		err = refusal{http.StatusNotFound, "UNSUPPORTED"}
	}
	if err == nil {
		return
	}
	refused, ok := errors.AsType[refusal](err)
	if !ok {
		refused = refusal{http.StatusInternalServerError, "UNKNOWN"}
	}
	w.WriteHeader(refused.status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, refused.code, err)
}

type refusal struct {
	status int
	code   string
}

func (r refusal) Error() string { return "refused: " + r.code }

func (r *Registry) file(digits string) string { return filepath.Join(r.dir, digits) }
func (r *Registry) upload(id string) string   { return filepath.Join(r.dir, "upload-"+id) }

func (r *Registry) count(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received += n
}

func (r *Registry) has(repo, digits string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blobs[repo+"@sha256:"+digits]
}

func (r *Registry) keep(repo, digits string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[repo+"@sha256:"+digits] = true
}

func (r *Registry) blob(w http.ResponseWriter, req *http.Request, repo, digits string) error {
	if !r.has(repo, digits) {
		return refusal{http.StatusNotFound, "BLOB_UNKNOWN"}
	}
	w.Header().Set("Docker-Content-Digest", "sha256:"+digits)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeFile(w, req, r.file(digits))
	return nil
}

func (r *Registry) begin(w http.ResponseWriter, req *http.Request, repo string) error {
	if _, digits, ok := strings.Cut(req.FormValue("mount"), "sha256:"); ok && r.has(req.FormValue("from"), digits) {
		r.keep(repo, digits)
		w.WriteHeader(http.StatusCreated)
		return nil
	}
	r.mu.Lock()
	r.uploads++
	id := strconv.Itoa(r.uploads)
	r.mu.Unlock()
	if err := os.WriteFile(r.upload(id), nil, 0o666); err != nil {
		return err
	}
	w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
	w.Header().Set("Range", "0-0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (r *Registry) receive(w http.ResponseWriter, req *http.Request, repo, id string) error {
	f, err := os.OpenFile(r.upload(id), os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return refusal{http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN"}
	} else if err != nil {
		return err
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if at := req.Header.Get("Content-Range"); at != "" {
		if !r.Chunks {
			return refusal{http.StatusBadRequest, "UNSUPPORTED"}
		}
		if !strings.HasPrefix(at, fmt.Sprintf("%d-", have)) {
			return refusal{http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID"}
		}
	}
	n, err := io.Copy(f, req.Body)
	r.count(n)
	if err != nil {
		return err
	}
	w.Header().Set("Location", req.URL.Path)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, have+n-1)))
	switch req.Method {
	case http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch:
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		return r.finish(w, f, repo, id, req.FormValue("digest"))
	default:
		return refusal{http.StatusMethodNotAllowed, "UNSUPPORTED"}
	}
	return nil
}

func (r *Registry) finish(w http.ResponseWriter, f *os.File, repo, id, want string) error {
	h := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	digits := hex.EncodeToString(h.Sum(nil))
	if "sha256:"+digits != want {
		return refusal{http.StatusBadRequest, "DIGEST_INVALID"}
	}
	if err := os.Rename(r.upload(id), r.file(digits)); err != nil {
		return err
	}
	r.keep(repo, digits)
	w.Header().Set("Docker-Content-Digest", want)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (r *Registry) manifest(w http.ResponseWriter, req *http.Request, repo, id string) error {
	if req.Method == http.MethodPut {
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return err
		}
		if err := r.complete(repo, data); err != nil {
			return err
		}
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
		if strings.HasPrefix(id, "sha256:") && id != digest {
			return refusal{http.StatusBadRequest, "DIGEST_INVALID"}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		m := manifest{data, req.Header.Get("Content-Type")}
		r.manifests[repo+":"+id], r.manifests[repo+":"+digest] = m, m
		w.Header().Set("Docker-Content-Digest", digest)
		w.WriteHeader(http.StatusCreated)
		return nil
	}
	r.mu.Lock()
	m, ok := r.manifests[repo+":"+id]
	r.mu.Unlock()
	if !ok {
		return refusal{http.StatusNotFound, "MANIFEST_UNKNOWN"}
	}
	w.Header().Set("Docker-Content-Digest", fmt.Sprintf("sha256:%x", sha256.Sum256(m.data)))
	w.Header().Set("Content-Type", m.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(m.data)))
	if req.Method == http.MethodGet {
		io.Copy(w, bytes.NewReader(m.data))
	}
	return nil
}

// complete reports what a manifest or index lacks.
func (r *Registry) complete(repo string, data []byte) error {
	var m struct {
		Config    *v1.Descriptor
		Layers    []v1.Descriptor
		Manifests []v1.Descriptor
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return refusal{http.StatusBadRequest, "MANIFEST_INVALID"}
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	for _, d := range blobs {
		if !r.has(repo, d.Digest.Hex) {
			return refusal{http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN"}
		}
	}
	for _, d := range m.Manifests {
		if !r.Has(repo, d.Digest.String()) {
			return refusal{http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN"}
		}
	}
	return nil
}
