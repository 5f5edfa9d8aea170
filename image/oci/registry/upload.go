package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/nix2img/nix2img/internal/retry"
)

// An upload is a blob on its way to the registry.
//
// It begins with a POST that returns an address. Pieces go there in a PATCH each, whose answer may have the next address,
// and a PUT with the digest ends it. A blob of a single piece goes in the PUT.
// Registries that refuse one form of this are sent another; see [upload.adapt].
type upload struct {
	*session
	digest v1.Hash
	size   int64
	from   *source

	url     string // where the next request goes; empty: the upload has not begun
	sent    int64  // how many bytes the registry has
	chunk   int64  // bytes of a piece
	form    form
	refused [forms]bool
	done    bool
}

// A form is a way to send a blob.
type form int

const (
	inPieces form = iota // a PATCH for each, and an empty PUT
	inPut                // one PUT
	inPatch              // one PATCH, and an empty PUT
	forms
)

func (f form) String() string {
	return [...]string{"in pieces", "in one PUT", "in one PATCH"}[f]
}

// blob sees to it that the registry has a blob, which open reads, and returns how it got it.
func (s *session) blob(ctx context.Context, digest v1.Hash, size int64, open func() (io.ReadCloser, error)) (State, error) {
	found, err := s.has(ctx, s.repo, digest)
	if err != nil {
		return Missing, err
	}
	if found {
		s.advance(size, 0)
		return Present, nil
	}
	if s.dry {
		return s.mountable(ctx, digest), ctx.Err()
	}
	u := &upload{session: s, digest: digest, size: size, chunk: s.ChunkSize, from: &source{open: open}}
	if size <= u.chunk {
		u.form = form(s.whole.Load())
	}
	defer u.from.Close()
	if err := u.mount(ctx); err != nil {
		return Missing, err
	}
	if u.done {
		return Mounted, nil
	}
	return Sent, u.run(ctx)
}

// run takes the steps of an upload, and those that failures ask for.
func (u *upload) run(ctx context.Context) error {
	farthest := int64(0)
	for failures := 0; !u.done; {
		err := u.step(ctx)
		if u.sent > farthest {
			failures, farthest = 0, u.sent
		}
		if err == nil {
			continue
		}
		if adapted, err := u.adapt(ctx, err); adapted {
			continue
		} else if err != nil {
			return err
		}
		if failures++; failures == maxFailures || !u.mayPass(ctx, err) {
			return err
		}
		if err := u.recover(ctx, err, failures); err != nil {
			return err
		}
	}
	return nil
}

// has reports whether a repository of the registry has a blob.
func (s *session) has(ctx context.Context, repo name.Repository, digest v1.Hash) (bool, error) {
	resp, err := s.ask(ctx, http.MethodHead, address(repo, "blobs", digest.String()), http.StatusOK, http.StatusNotFound)
	return err == nil && resp.StatusCode == http.StatusOK, err
}

// others gives the repositories that blobs can be mounted from.
func (s *session) others(yield func(name.Repository) bool) {
	for _, repo := range s.MountFrom {
		if repo.RegistryStr() == s.repo.RegistryStr() && repo.RepositoryStr() != s.repo.RepositoryStr() && !yield(repo) {
			return
		}
	}
}

// mountable asks whether a blob that is missing could be mounted. What goes wrong there does not matter.
func (s *session) mountable(ctx context.Context, digest v1.Hash) State {
	for repo := range s.others {
		if found, err := s.has(ctx, repo, digest); found && err == nil {
			return Mounted
		}
	}
	return Missing
}

// mount tries to have the blob from other repositories. What goes wrong there does not matter.
func (u *upload) mount(ctx context.Context) error {
	for repo := range u.others {
		q := url.Values{"mount": {u.digest.String()}, "from": {repo.RepositoryStr()}}
		resp, err := u.ask(ctx, http.MethodPost, u.session.url("blobs", "uploads", "")+"?"+q.Encode(), http.StatusCreated, http.StatusAccepted)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
		case resp.StatusCode == http.StatusCreated:
			u.finish()
			return nil
		default:
			return u.begun(resp)
		}
	}
	return nil
}

// step sends the next request, as far as the blob has come.
func (u *upload) step(ctx context.Context) error {
	switch rest := u.size - u.sent; {
	case u.url == "":
		resp, err := u.ask(ctx, http.MethodPost, u.session.url("blobs", "uploads", ""), http.StatusAccepted)
		if err != nil {
			return err
		}
		return u.begun(resp)
	case rest == 0:
		return u.commit(ctx, 0)
	case u.form == inPut:
		return u.commit(ctx, rest)
	case u.form == inPatch:
		return u.patch(ctx, rest)
	default:
		return u.patch(ctx, min(rest, u.chunk))
	}
}

// begun takes the answer to a POST.
func (u *upload) begun(resp *http.Response) error {
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil {
		u.chunk = max(u.chunk, n)
	}
	return u.next(resp)
}

// next takes the address of the next request from an answer. It stays the same if the answer has none.
func (u *upload) next(resp *http.Response) error {
	if u.url != "" && resp.Header.Get("Location") == "" {
		return nil
	}
	about := resp.Request.Method + " " + resp.Request.URL.Redacted()
	loc, err := resp.Location()
	switch {
	case err != nil:
		return u.failf("%s: the answer does not say where to send the blob: %w", about, err)
	case loc.Scheme != "http" && loc.Scheme != "https":
		return u.failf("%s: the registry wants the blob at %s, which is neither http nor https", about, loc.Redacted())
	case loc.Scheme == "http" && resp.Request.URL.Scheme == "https":
		return u.failf("%s: the registry wants the blob at %s, without TLS", about, loc.Redacted())
	}
	u.url = loc.String()
	return nil
}

// patch sends the next n bytes.
func (u *upload) patch(ctx context.Context, n int64) error {
	resp, err := u.send(ctx, http.MethodPatch, u.url, n, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	if err != nil {
		return err
	}
	if err := u.next(resp); err != nil {
		return err
	}
	have, ok := received(resp.Header)
	switch {
	case !ok || have > u.sent+n:
		u.sent += n
	case have > u.sent && (have > 1 || n == 1):
		u.advance(have-u.sent-n, 0) // less: it has not taken all of it
		u.sent = have
	default:
		u.advance(-n, 0)
		return u.fail(ctx, fmt.Errorf("PATCH %s: %s, but the registry has taken nothing of %d bytes", resp.Request.URL.Redacted(), resp.Status, n))
	}
	return nil
}

// commit ends the upload, with the last n bytes.
func (u *upload) commit(ctx context.Context, n int64) error {
	to, err := url.Parse(u.url)
	if err != nil {
		return u.failf("upload to %q: %w", u.url, err)
	}
	q := to.Query()
	q.Set("digest", u.digest.String())
	to.RawQuery = q.Encode()
	resp, err := u.send(ctx, http.MethodPut, to.String(), n, http.StatusCreated)
	if err != nil {
		return err
	}
	u.sent += n
	if err := u.checkDigest(resp, u.digest); err != nil {
		return err
	}
	u.done = true
	if u.form != inPieces {
		u.whole.Store(int32(u.form))
	}
	return nil
}

// checkDigest compares the digest that a registry says it has got, if it does.
func (s *session) checkDigest(resp *http.Response, want v1.Hash) error {
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != want.String() {
		return s.failf("%s %s: the registry has got %s, was sent %s", resp.Request.Method, resp.Request.URL.Redacted(), got, want)
	}
	return nil
}

// send sends n bytes of the blob.
func (u *upload) send(ctx context.Context, method, to string, n int64, statuses ...int) (*http.Response, error) {
	var body *piece
	var reader io.Reader // nil, not a nil *piece, if there is nothing to send
	if n > 0 {
		r, err := u.from.at(u.sent)
		if err != nil {
			return nil, &sourceError{err}
		}
		body = &piece{r: r, left: n, sent: func(n int) { u.advance(int64(n), int64(n)) }}
		reader = body
	}
	req, err := u.request(ctx, method, to, reader)
	if err != nil {
		return nil, err
	}
	req.ContentLength = n
	req.Header.Set("Content-Type", "application/octet-stream")
	if method == http.MethodPatch {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.sent, u.sent+n-1))
	}
	resp, err := u.do(req, statuses...)
	if body != nil {
		// The transport may still be reading.
		read, readErr := body.end()
		u.from.pos += read
		if readErr != nil {
			err = &sourceError{readErr}
		}
		if err != nil {
			u.advance(-read, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	return resp, nil
}

// adapt reports whether a failure tells that the registry wants the blob in another form, and chooses that.
func (u *upload) adapt(ctx context.Context, failure error) (bool, error) {
	const small = 8 << 20
	e, ok := errors.AsType[*Error](failure)
	if !ok || u.url == "" {
		return false, nil
	}
	switch e.Status {
	case http.StatusRequestEntityTooLarge:
		if u.chunk <= small || u.size <= small {
			return false, nil
		}
		u.chunk, u.form = small, inPieces
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented:
		if u.form != inPieces && damaged(failure) {
			return false, nil
		}
		if found, err := u.has(ctx, u.repo, u.digest); found || err != nil {
			u.finish() // the upload has ended, and the answer was lost
			return found, err
		}
		// It does not know this form, or has lost what came before.
		u.refused[u.form] = true
		i := slices.Index(u.refused[inPut:], false)
		if i < 0 {
			return false, nil
		}
		was := u.form
		u.form = inPut + form(i)
		u.note("%s does not take %s %s (%v); sending it %s", u.repo.RegistryStr(), u.digest, was, failure, u.form)
	default:
		return false, nil
	}
	u.restart()
	return true, nil
}

// restart forgets what the registry has.
func (u *upload) restart() {
	u.advance(-u.sent, 0)
	u.url, u.sent = "", 0
}

// mayPass reports whether what has failed is worth another attempt.
func (u *upload) mayPass(ctx context.Context, err error) bool {
	return damaged(err) || is[*Error](err) && mayPass(ctx, err)
}

// damaged reports whether a registry has got other bytes than those that were sent.
func damaged(err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return ok && slices.ContainsFunc(e.Errors, func(d transport.Diagnostic) bool { return d.Code == transport.DigestInvalidErrorCode })
}

// recover waits after a failure, and finds out how far the upload has come.
func (u *upload) recover(ctx context.Context, failure error, failures int) error {
	pause := pauseAfter(u.Pause, failures)
	if e, ok := errors.AsType[*Error](failure); ok {
		if pause = max(pause, e.wait); pause > maxPause {
			return failure
		}
	}
	u.note("upload %s: %v; trying again in %s", u.digest, failure, pause)
	if err := retry.Sleep(ctx, pause); err != nil {
		return err
	}
	if found, err := u.has(ctx, u.repo, u.digest); found || err != nil {
		u.finish() // the upload has ended, and the answer was lost
		return err
	}
	if u.url != "" && !damaged(failure) {
		resp, err := u.ask(ctx, http.MethodGet, u.url, http.StatusNoContent, http.StatusAccepted)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			if have, ok := received(resp.Header); ok && have > 1 && have <= u.size && u.next(resp) == nil {
				u.advance(have-u.sent, 0)
				u.sent = have
				return nil
			}
		}
	}
	u.restart()
	return nil
}

// finish takes note that the registry has the blob.
func (u *upload) finish() {
	u.advance(u.size-u.sent, 0)
	u.done = true
}

// received returns how many bytes a registry says that it has: "Range: 0-LAST".
// For none at all, some say 0-0 as well.
func received(h http.Header) (n int64, ok bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(h.Get("Range"), "bytes="), "-")
	end, err := strconv.ParseInt(last, 10, 62)
	return end + 1, ok && first == "0" && err == nil && end >= 0
}
