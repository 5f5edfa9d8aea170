package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci/registry"
)

// registryFlags say how to speak to registries, flag by flag.
type registryFlags struct {
	authFile string
	insecure bool
}

func (r *registryFlags) addFlags(f *pflag.FlagSet) {
	f.StringVar(&r.authFile, "authfile", "", "take credentials from `FILE`, as podman login or docker login write it\n(default: theirs)")
	f.BoolVar(&r.insecure, "insecure", false, "go without TLS, or without checking certificates;\na registry on this machine needs no flag")
}

const (
	orasScheme   = "oras://"
	dockerScheme = "docker://"
)

// parse reads a reference. SIFs are marked with the scheme that the runtimes use.
func (r *registryFlags) parse(arg string) (ref name.Reference, oras bool, err error) {
	rest, oras := strings.CutPrefix(arg, orasScheme)
	rest = strings.TrimPrefix(rest, dockerScheme)
	var opts []name.Option
	if r.insecure {
		opts = append(opts, name.Insecure)
	}
	if ref, err = name.ParseReference(rest, opts...); err != nil {
		return nil, oras, withHint(usagef("%q is not a reference", arg),
			"a reference is HOST/REPOSITORY:TAG, with the repository in lower case, such as registry.example.org/group/app:1.0")
	}
	return ref, oras, nil
}

// runtime makes what package registry needs.
func (r *registryFlags) runtime(u *ui) (*registry.Runtime, error) {
	rt := &registry.Runtime{
		Insecure:  r.insecure,
		Keychain:  authn.DefaultKeychain,
		Transport: ggcr.NewUserAgent(&transport{u, r.transport()}, "nix2img/"+image.Version),
		Note:      func(s string) { u.infof("note: %s", s) },
		Blob:      func(b registry.Blob) { u.detailf("%s, %s: %s", b.Digest, formatSize(b.Size), b.State) },
	}
	if r.authFile != "" {
		f, err := os.Open(r.authFile)
		if err != nil {
			return nil, fmt.Errorf("--authfile %s: %w", r.authFile, reason(err))
		}
		defer f.Close()
		file, err := config.LoadFromReader(f)
		if err != nil {
			return nil, fmt.Errorf("--authfile %s: %w", r.authFile, err)
		}
		rt.Keychain = authFile{file}
	}
	return rt, nil
}

// Limits of what a registry that does not answer can keep us from.
const (
	dialTimeout = 10 * time.Second
	idleTimeout = 2 * time.Minute // without a byte, while something is expected
)

func (r *registryFlags) transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: r.insecure}
	t.MaxIdleConnsPerHost = 16
	dialer := &net.Dialer{Timeout: dialTimeout}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return idleConn{conn, idleTimeout}, nil
	}
	return t
}

// idleConn is a connection on which something must happen, if only a byte now and then.
type idleConn struct {
	net.Conn
	limit time.Duration
}

func (c idleConn) Read(p []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(c.limit))
	return c.Conn.Read(p)
}

func (c idleConn) Write(p []byte) (int, error) {
	// Who waits for an answer has not waited for it yet.
	c.SetDeadline(time.Now().Add(c.limit))
	return c.Conn.Write(p)
}

// authFile is a file of credentials as Docker and Podman have it.
type authFile struct{ *configfile.ConfigFile }

// Resolve looks for the repository, what lies above it, and the registry, as Podman does.
func (f authFile) Resolve(target authn.Resource) (authn.Authenticator, error) {
	key := target.String()
	for {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		c, err := f.GetAuthConfig(key)
		if err != nil {
			return nil, err
		}
		c.ServerAddress = ""
		if c != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username: c.Username, Password: c.Password, Auth: c.Auth,
				IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
			}), nil
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 || key == authn.DefaultAuthKey {
			return authn.Anonymous, nil
		}
		key = key[:i]
	}
}

// registryHint returns advice on an error of a registry.
func registryHint(e *registry.Error) string {
	if realm, ok := errors.AsType[*registry.RealmError](e); ok {
		if !realm.Clear {
			return "without a password the registry is asked as anybody: name a file that has none for it with --authfile"
		}
		return "--insecure sends the password without TLS, if the registry has none either; " +
			"an --authfile without a password for it asks as anybody"
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "log in with podman login " + e.Host + " or docker login " + e.Host + ", or name a file with credentials: --authfile"
	case 0:
		return "is " + e.Host + " a registry that can be reached from here? --insecure goes without TLS"
	}
	return ""
}
