package image

import (
	"context"
	"errors"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/cache"
)

// A Forecast tells what a build would do, as far as that can be told without doing it.
type Forecast struct {
	Found   int              // objects that have been compressed already
	Size    int64            // bytes of those, compressed
	Missing []closure.Object // objects that would be compressed, in the order of the closure
}

// Foresee looks for what has been compressed of objects, by their keys, in the cache and the sources. It reads none of it:
// what turns out to be damaged, or cannot be proved, will be compressed after all.
func (rt *Runtime) Foresee(ctx context.Context, objects []closure.Object, key func(*closure.Object) cache.Key) (*Forecast, error) {
	if rt == nil {
		rt = new(Runtime)
	}
	var sources []cache.Source
	if rt.Cache != nil {
		sources = append(sources, rt.Cache)
	}
	sources = append(sources, rt.From...)
	f := new(Forecast)
	for _, o := range objects {
		e, err := find(ctx, sources, key(&o))
		switch {
		case err != nil:
			return nil, err
		case e == nil:
			f.Missing = append(f.Missing, o)
		default:
			f.Found, f.Size = f.Found+1, f.Size+e.Size
		}
	}
	return f, nil
}

// find returns the first entry with a key, or nil. What cannot be read, or is damaged, is none.
func find(ctx context.Context, sources []cache.Source, k cache.Key) (*cache.Entry, error) {
	for _, from := range sources {
		e, err := from.Entry(ctx, k)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			return e, nil
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, cache.ErrDamaged) || cache.Unreadable(err):
		default:
			if _, others := errors.AsType[*cache.TrustError](err); !others {
				return nil, err
			}
		}
	}
	return nil, nil
}
