package gpu

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nix2img/nix2img/internal/spelling"
)

var (
	capability = regexp.MustCompile(`^(?:(?:sm|compute)_?)?([0-9]{1,2})\.?([0-9])([af]?)$`)
	gfx        = regexp.MustCompile(`^gfx[0-9a-f]{3,4}$`)
	// slurm is a generic resource: gpu:a100:4, gres/gpu:tesla_v100.
	slurm = regexp.MustCompile(`^(?:gres/)?gpu[:=]([^:=]+)(?:[:=][0-9]+)?$`)
	// aside are words that say nothing about the kind: makers, memory, form, parts of a GPU, virtual ones.
	aside = regexp.MustCompile(`^(nvidia|amd|tesla|geforce|instinct|grid|gpu|nvgpu|graphics|edition|generation|series|` +
		`[0-9]+gb|hbm[0-9]e?|gddr[0-9]x?|pcie|sxm[0-9]?|nvl[0-9]*|oam|mig|[0-9]+g|[0-9]+g\.[0-9]+gb|laptop|mobile|developer|kit|module|dual|slot|` +
		`dgxs|ac|mcm|mba|hf|vf|[0-9]+[abcq])$`)
	// soft are words that some names need, and others do not.
	soft = regexp.MustCompile(`^(jetson|agx|nx|nano|dgx|hgx|egx|radeon|blackwell|workstation|server|max|q|ti|super|d|xt|xtx|gre)$`)
	// ending is what may follow a number without a space: RTX 4070Ti.
	ending = regexp.MustCompile(`^((?:gtx|rtx|rx)[0-9]+)(ti|super|d|xt|xtx|gre)+$`)
)

// ParseTarget returns the GPU of a name: that of a product, as shops, nvidia-smi, rocm-smi and Slurm have it
// ("A100", "NVIDIA H100 80GB HBM3", "gpu:a100:4", "RTX 4090", "Jetson AGX Orin", "AMD Instinct MI300X"),
// a compute capability ("8.0", "sm_80", "compute_80"), or an AMD target ("gfx90a", "gfx11-generic").
// Upper and lower case, spaces, hyphens and underscores do not matter.
//
// A capability that is later than all that are known is taken: what can be said of it is.
func ParseTarget(s string) (*Target, error) { return builtin.parseTarget(s) }

func (t *tables) parseTarget(s string) (*Target, error) {
	name := strings.TrimSpace(s)
	word := strings.ToLower(name)
	if m := slurm.FindStringSubmatch(word); m != nil {
		word = m[1]
	}
	if gfx.MatchString(word) || t.members(word) != nil {
		return t.amdTarget(name, word), nil
	}
	if m := capability.FindStringSubmatch(strings.NewReplacer(" ", "", "-", "").Replace(word)); m != nil {
		major, _ := strconv.Atoi(m[1])
		minor, _ := strconv.Atoi(m[2])
		if g := t.target(name, major, minor); g.known || t.isLater(g) {
			return g, nil
		}
	}
	candidates := productNames(word)
	for _, c := range candidates {
		if g := t.sold(name, c); g != nil {
			return g, nil
		}
	}
	err := fmt.Errorf("%q is not a GPU that is known", s)
	if near := t.near(candidates); near != nil {
		return nil, fmt.Errorf("%w: did you mean %s?", err, strings.Join(near, " or "))
	}
	return nil, fmt.Errorf("%w: try its compute capability, such as sm_80, or gfx90a", err)
}

// isLater reports whether a GPU is later than all in the tables.
func (t *tables) isLater(g *Target) bool {
	last := Version{}
	for _, m := range t.models {
		last = later(last, Version{m.major, m.minor})
	}
	return Version{g.major, g.minor}.Compare(last) > 0
}

// productNames returns the names under which a product may be in the tables, the most special first.
func productNames(name string) []string {
	all := strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune(" \t-_/()[],", r) })
	words := slices.DeleteFunc(slices.Clone(all), aside.MatchString)
	hard := slices.DeleteFunc(slices.Clone(words), soft.MatchString)
	var names []string
	for _, list := range [][]string{words, hard} {
		joined := strings.Join(list, "")
		if m := ending.FindStringSubmatch(joined); m != nil {
			joined = m[1]
		}
		if joined != "" && !slices.Contains(names, joined) {
			names = append(names, joined)
		}
	}
	return names
}

// sold returns the GPU that is sold under a name, or nil.
func (t *tables) sold(name, word string) *Target {
	for i := range t.products {
		p := &t.products[i]
		if !slices.Contains(strings.Fields(p.names), word) {
			continue
		}
		g := t.target(name, p.major, p.minor)
		g.forward = p.forward
		if p.arch != "" {
			g.Arch = p.arch
		}
		if p.driver != "" {
			g.driver = p.driver
		}
		return g
	}
	for _, m := range t.amd {
		if slices.Contains(strings.Fields(m.names), word) {
			return t.amdTarget(name, m.code)
		}
	}
	return nil
}

// near returns the names of products that resemble what was asked for, the most similar first.
func (t *tables) near(candidates []string) []string {
	const most, limit = 3, 200
	type match struct {
		name     string
		distance int
	}
	var found []match
	note := func(names string) {
		for name := range strings.FieldsSeq(names) {
			for _, c := range candidates {
				if len(c) > limit || len(c) < 2 {
					continue
				}
				d := spelling.Distance(c, name)
				if strings.HasSuffix(name, c) || strings.HasPrefix(name, c) {
					d = 0
				}
				if d <= 1 || d == 2 && len(c) > 5 {
					found = append(found, match{strings.ToUpper(name), d})
					break
				}
			}
		}
	}
	for _, p := range t.products {
		note(p.names)
	}
	for _, m := range t.amd {
		note(m.names)
	}
	slices.SortStableFunc(found, func(a, b match) int { return a.distance - b.distance })
	var names []string
	for _, m := range found[:min(most, len(found))] {
		names = append(names, m.name)
	}
	return names
}
