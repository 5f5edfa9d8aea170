package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/gpu"
)

// gpuUse says which GPUs an image is to serve, flag by flag.
type gpuUse struct {
	nv, rocm string
	check    gpuCheck
}

func (g *gpuUse) addFlags(f *pflag.FlagSet) {
	f.StringVar(&g.nv, "nv", "auto", "serve NVIDIA's driver: `WHEN` is yes, no, or auto: if the closure has code for it")
	f.StringVar(&g.rocm, "rocm", "auto", "serve AMD's driver: `WHEN` is yes, no or auto")
	g.check.addFlags(f)
}

// parse judges the flags.
func (g *gpuUse) parse(u *ui, from *source) (use image.GPU, err error) {
	if use.NV, err = parseChoice("--nv", g.nv); err != nil {
		return use, err
	}
	if use.ROCm, err = parseChoice("--rocm", g.rocm); err != nil {
		return use, err
	}
	g.check.demand.CPU = use.NV == image.No
	use.Waive = g.check.demand.Waive
	return use, g.check.parse(u, from)
}

func parseChoice(flag, value string) (image.Choice, error) {
	choice, ok := map[string]image.Choice{"auto": image.Auto, "yes": image.Yes, "no": image.No}[value]
	if !ok {
		return 0, usagef("%s %s: want auto, yes or no", flag, value)
	}
	return choice, nil
}

// accept returns what warns of all that a report has against an image of a closure,
// and fails if the image will not run where it is to.
func (g *gpuUse) accept(u *ui, c *closure.Closure) func(*gpu.Report) error {
	said := false
	return func(r *gpu.Report) error {
		if said {
			return nil
		}
		said = true
		refs := make(map[closure.Path][]closure.Path)
		for _, o := range c.Objects() {
			refs[o.Path] = o.References
		}
		explainSuspects(r, c.Roots(), refs)
		for i := range r.Suspects {
			s := &r.Suspects[i]
			text := fmt.Sprintf("%s %s%s", s.Path, s.Text, whyText(s))
			if s.Severity == gpu.Note {
				u.detailf("%s", text)
			} else {
				u.warnf("%s", text)
			}
		}
		return g.check.judge(u, g.check.verdict(r), g.check.onSite(r))
	}
}

// whyText says by whose references a suspect is in the closure.
func whyText(s *gpu.Suspect) string {
	if len(s.Why) < 2 {
		return ""
	}
	var names []string
	for _, p := range s.Why {
		names = append(names, shortPath(p))
	}
	return " (it is there for " + strings.Join(names, " -> ") + ")"
}
