package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/nix2img/nix2img/internal/retry"
)

// Runtime is what decides speed and reporting, and with whose rights things are done.
// A nil Runtime is the zero value.
type Runtime struct {
	// Keychain finds credentials. Nil means that there are none.
	Keychain authn.Keychain
	// Transport carries the requests. It must end those that get no answer.
	// Nil means go-containerregistry's, which goes by the proxies that the environment names.
	Transport http.RoundTripper
	// Jobs is how many blobs are on their way at a time. Zero means 4.
	Jobs int
	// ChunkSize is how many bytes are sent in one request. Zero means 64 MiB:
	// there are proxies that take no more than 100 MB.
	ChunkSize int64
	// Pause is the time between the first failure and the second attempt. Zero means half a second.
	Pause time.Duration
	// Insecure lets passwords go without TLS to the host that a registry without TLS names for its tokens.
	// The registry itself, this machine and private networks need no such permission;
	// a registry with TLS cannot have it.
	Insecure bool
	// MountFrom has repositories of the same registry that may have the blobs already.
	MountFrom []name.Repository
	// Progress, if not nil, is told how far sending has come. Calls do not overlap.
	Progress func(Progress)
	// Blob, if not nil, is told of each blob that has been dealt with. Calls do not overlap.
	Blob func(Blob)
	// Note, if not nil, is told of what did not go as planned, a sentence each.
	Note func(string)
}

// Progress tells how far a transfer has come. All numbers are bytes of blobs.
type Progress struct {
	Done  int64 // sent, or found to be there
	Total int64 // of the whole image
	Sent  int64 // sent, what was sent twice counting twice
}

// Blob is a layer or configuration, and what has become of it.
type Blob struct {
	Digest v1.Hash
	Size   int64 // bytes
	State  State
}

// State says what has become of a blob.
type State int

const (
	Missing State = iota // the registry does not have it
	Present              // the registry has it
	Mounted              // the registry has it in another repository, from which it takes it
	Sent
	Fetched
)

func (s State) String() string {
	names := [...]string{"missing", "present", "mounted", "sent", "fetched"}
	if s < 0 || int(s) >= len(names) {
		return "State(" + strconv.Itoa(int(s)) + ")"
	}
	return names[s]
}

// Error reports that a registry cannot be reached, or refuses a request.
type Error struct {
	Host   string
	Status int // the HTTP status, 0 if there was no answer
	Err    error

	text string        // instead of that of Err, if there is one
	wait time.Duration // that the registry asks for
}

func (e *Error) Error() string {
	if e.text == "" && e.Err != nil {
		return e.Err.Error()
	}
	return e.text
}

func (e *Error) Unwrap() error { return e.Err }

// NotFoundError reports something that a registry does not have. The error is the user's, not the network's.
type NotFoundError struct {
	What string // such as "tag 1.0" or "image for linux/arm64"
	// Have is what there is instead, such as the platforms of an index. It may be empty.
	Have []string
}

func (e *NotFoundError) Error() string {
	if len(e.Have) == 0 {
		return "there is no " + e.What
	}
	return fmt.Sprintf("there is no %s, but there is %s", e.What, strings.Join(e.Have, ", "))
}

// DigestError reports contents that are not those that were asked for.
type DigestError struct {
	Want, Got v1.Hash
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("digest is %s, want %s", e.Got, e.Want)
}

// A session is a conversation about one repository.
type session struct {
	*Runtime
	repo   name.Repository
	client *http.Client
	whole  atomic.Int32 // the [form] in which a blob of one piece was taken last
	dry    bool         // nothing is sent

	mu       sync.Mutex // of what follows, and of Progress, Blob and Note
	progress Progress
}

// open begins a conversation. Actions are those of [transport], for the token that it takes.
func open(ctx context.Context, repo name.Repository, rt *Runtime, action string) (*session, error) {
	s := &session{Runtime: new(Runtime), repo: repo}
	s.whole.Store(int32(inPut))
	if rt != nil {
		*s.Runtime = *rt
	}
	if s.Transport == nil {
		s.Transport = remote.DefaultTransport
	}
	if s.Jobs <= 0 {
		s.Jobs = 4
	}
	if s.ChunkSize <= 0 {
		s.ChunkSize = 64 << 20
	}
	if s.Pause <= 0 {
		s.Pause = time.Second / 2
	}
	auth := authn.Anonymous
	var err error
	if s.Keychain != nil {
		if auth, err = authn.Resolve(ctx, s.Keychain, repo); err != nil {
			return nil, fmt.Errorf("credentials for %s: %w", repo.RegistryStr(), err)
		}
	}
	scopes := []string{repo.Scope(action)}
	for _, from := range s.MountFrom {
		scopes = append(scopes, from.Scope(transport.PullScope))
	}
	guarded := &guard{session: s, inner: &retrier{inner: s.Transport, pause: s.Pause, note: s.note}}
	if guarded.login, err = hasPassword(ctx, auth); err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", repo.RegistryStr(), err)
	}
	t, err := transport.NewWithContext(ctx, repo.Registry, auth, guarded, scopes)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	s.client = &http.Client{Transport: t}
	return s, nil
}

func (s *session) note(format string, args ...any) {
	if s.Note != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Note(fmt.Sprintf(format, args...))
	}
}

// advance reports bytes that have been dealt with, and how many of them were sent.
func (s *session) advance(done, sent int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress.Done += done
	s.progress.Sent += sent
	if s.Progress != nil {
		s.Progress(s.progress)
	}
}

// dealt tells what has become of a blob.
func (s *session) dealt(b Blob) {
	if s.Blob != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Blob(b)
	}
}

// fail makes an [*Error] of what went wrong, unless ctx has ended it.
func (s *session) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &Error{Host: s.repo.RegistryStr(), Err: err}
	if t, ok := errors.AsType[*transport.Error](err); ok {
		e.Status = t.StatusCode
		e.text = strings.Replace(err.Error(), t.Error(), describe(t), 1)
	}
	return e
}

// describe says what a registry has answered: the codes and messages of its errors (distribution specification, "Error Codes").
// Details, of which every registry has its own, are left out, and so are pages for people.
func describe(e *transport.Error) string {
	var b strings.Builder
	if e.Request != nil {
		to := *e.Request.URL
		to.RawQuery = "" // may have keys
		fmt.Fprintf(&b, "%s %s: ", e.Request.Method, to.Redacted())
	}
	if len(e.Errors) == 0 {
		fmt.Fprintf(&b, "%d %s", e.StatusCode, http.StatusText(e.StatusCode))
	}
	for i, d := range e.Errors[:min(len(e.Errors), 4)] {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(shorten(string(d.Code)))
		if d.Message != "" {
			b.WriteString(": " + shorten(d.Message))
		}
	}
	return b.String()
}

func shorten(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// A senselessError is an answer that would be no better the next time.
type senselessError struct{ err error }

func (e *senselessError) Error() string { return e.err.Error() }
func (e *senselessError) Unwrap() error { return e.err }

// failf is fail for an answer that makes no sense.
func (s *session) failf(format string, args ...any) error {
	return &Error{Host: s.repo.RegistryStr(), Status: http.StatusOK, Err: &senselessError{fmt.Errorf(format, args...)}}
}

// url returns the address of something in the repository.
func (s *session) url(elems ...string) string { return address(s.repo, elems...) }

// address returns the address of something in a repository.
func address(repo name.Repository, elems ...string) string {
	u := url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: "/v2/" + repo.RepositoryStr() + "/" + strings.Join(elems, "/")}
	return u.String()
}

// request makes a request. It is repeated if need be, unless it has a body that [http.NewRequest] cannot have twice.
func (s *session) request(ctx context.Context, method, url string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return req, nil
}

// do sends a request and returns an answer that has one of the given statuses. The caller closes its body.
func (s *session) do(req *http.Request, statuses ...int) (*http.Response, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, s.fail(req.Context(), err)
	}
	if err = transport.CheckError(resp, statuses...); err == nil {
		return resp, nil
	}
	resp.Body.Close()
	err = s.fail(req.Context(), err)
	if e, ok := errors.AsType[*Error](err); ok {
		e.wait = retry.After(resp.Header, time.Time{})
	}
	return nil, err
}

// ask is do for an answer of which only the header counts.
func (s *session) ask(ctx context.Context, method, url string, statuses ...int) (*http.Response, error) {
	req, err := s.request(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.do(req, statuses...)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	return resp, nil
}
