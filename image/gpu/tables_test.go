package gpu

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Rows go from old to new, without gaps, each with a source, and nothing is named twice.
func TestTablesAreConsistent(t *testing.T) {
	b := builtin
	if _, err := time.Parse(time.DateOnly, b.date); err != nil {
		t.Error(err)
	}
	for i, r := range b.releases {
		if r.source == "" || r.isa.IsZero() {
			t.Errorf("CUDA %s: %+v", r.cuda, r)
		}
		if r.native == "" && i < len(b.releases)-1 {
			t.Errorf("CUDA %s has no driver, and is not the last", r.cuda)
		}
		if i == 0 {
			continue
		}
		before := b.releases[i-1]
		next := before.cuda.Major == r.cuda.Major && before.cuda.Minor+1 == r.cuda.Minor || before.cuda.Major+1 == r.cuda.Major && r.cuda.Minor == 0
		if !next || before.isa.Compare(r.isa) > 0 || r.native != "" && before.native.Compare(r.native) >= 0 {
			t.Errorf("CUDA %s does not follow %s: %+v, %+v", r.cuda, before.cuda, r, before)
		}
	}
	for i, f := range b.floors {
		first := b.release(Version{f.major, 0})
		if first == nil || f.source == "" || f.driver.Compare(first.native) < 0 || i > 0 && b.floors[i-1].major+1 != f.major {
			t.Errorf("floor %+v, first release %+v", f, first)
		}
	}
	if last, _ := b.end(); b.floor(last.Major) == "" {
		t.Errorf("CUDA %s has no floor", last)
	}
}

func TestGPUsAreConsistent(t *testing.T) {
	b := builtin
	before := Version{}
	for _, m := range b.models {
		name := fmt.Sprintf("sm_%d%d", m.major, m.minor)
		if v := (Version{m.major, m.minor}); v.Compare(before) <= 0 || m.source == "" {
			t.Errorf("%s after %s: %+v", name, before, m)
		} else {
			before = v
		}
		if m.first.IsZero() || !m.last.IsZero() && m.last.Compare(m.first) < 0 {
			t.Errorf("%s: compilers from %s to %s", name, m.first, m.last)
		}
		if (m.kind == ordinary) != (m.driver != "") || m.lastBranch != 0 && m.lastBranch < m.driver.branch() {
			t.Errorf("%s: drivers from %s to R%d", name, m.driver, m.lastBranch)
		}
		if m.kind == ordinary && (m.last.IsZero() != (m.lastBranch == 0)) {
			t.Errorf("%s: compilers up to %s, drivers up to R%d", name, m.last, m.lastBranch)
		}
		// A driver that knows all of the release that brings a GPU knows that GPU.
		if r := b.release(m.first); r != nil && m.driver != "" && b.atLeast(r.native, m.driver) == never {
			t.Errorf("%s: known by CUDA %s, whose driver is %s, and by drivers from %s on", name, m.first, r.native, m.driver)
		}
		if m.kind != unsure && b.target("", m.major, m.minor).Code != name {
			t.Errorf("%s is %s", name, b.target("", m.major, m.minor).Code)
		}
	}
	seen := make(map[string]bool)
	word := regexp.MustCompile(`^[a-z0-9]+$`)
	check := func(names, source string) {
		for _, name := range strings.Fields(names) {
			if seen[name] || !word.MatchString(name) || source == "" {
				t.Errorf("the name %q: there before: %t, source %q", name, seen[name], source)
			}
			seen[name] = true
			if _, err := ParseTarget(name); err != nil {
				t.Error(err)
			}
		}
	}
	for _, p := range b.products {
		m := b.model(p.major, p.minor)
		if m == nil || m.kind == jetson && p.arch != "arm64" || p.driver != "" && p.driver.Compare(m.driver) <= 0 {
			t.Errorf("%+v is of no model, or not as it", p)
		}
		check(p.names, p.source)
	}
	for _, m := range b.amd {
		if !gfx.MatchString(m.code) || !m.first.IsZero() && !m.last.IsZero() && m.last.Compare(m.first) < 0 {
			t.Errorf("%+v", m)
		}
		check(m.names, m.source)
	}
	for i, r := range b.rocm {
		if r.source == "" || r.newest.Major != r.major || i > 0 && b.rocm[i-1].major+1 != r.major {
			t.Errorf("%+v", r)
		}
	}
	for _, g := range b.generic {
		if len(strings.Fields(g.members)) < 2 || g.source == "" {
			t.Errorf("%+v", g)
		}
	}
}

// world makes tables of random but possible histories: drivers bring releases of CUDA in order,
// GPUs come with a release, and the oldest go with a major version.
func world(r *rand.Rand) *tables {
	w := &tables{date: "2000-01-01", zstd: zstdRule{"1", "random"}, sonames: builtin.sonames}
	branch, isa, major, minor := 400, Version{7, 0}, 11, 0
	sm := 50
	for range 6 + r.IntN(10) {
		branch += 5 * (1 + r.IntN(4))
		native := Driver(fmt.Sprintf("%d.%02d.%02d", branch, 10+r.IntN(80), 1+r.IntN(9)))
		w.releases = append(w.releases, release{Version{major, minor}, isa, native, "random"})
		if minor == 0 {
			w.floors = append(w.floors, floor{major, native, "random"})
			for i := range w.models {
				if m := &w.models[i]; m.lastBranch == 0 && i < len(w.models)/2 && r.IntN(2) == 0 {
					m.last, m.lastBranch = w.releases[max(0, len(w.releases)-2)].cuda, branch
				}
			}
		}
		if r.IntN(2) == 0 || w.models == nil {
			sm += 1 + r.IntN(9)
			kind := ordinary
			m := model{sm / 10, sm % 10, Version{major, minor}, Version{}, native, 0, kind, "random"}
			if r.IntN(5) == 0 {
				m.kind, m.driver = jetson, ""
			}
			w.models = append(w.models, m)
		}
		if isa.Minor++; r.IntN(4) > 0 {
			minor++
		} else {
			major, minor = major+1, 0
			isa = Version{isa.Major + 1, 0}
		}
	}
	return w
}

// asOf returns what was known of a world when its first n releases were out.
func (t *tables) asOf(n int) *tables {
	old := *t
	old.releases = slices.Clone(t.releases[:n])
	end, branch := old.end()
	old.floors = slices.DeleteFunc(slices.Clone(t.floors), func(f floor) bool { return f.major > end.Major })
	old.models = slices.DeleteFunc(slices.Clone(t.models), func(m model) bool { return m.first.Compare(end) > 0 })
	for i := range old.models {
		if m := &old.models[i]; m.lastBranch >= branch {
			m.last, m.lastBranch = Version{}, 0
		}
	}
	return &old
}

// What is later than the tables neither runs nor fails for that: whatever old tables say for certain, new ones say as well.
func TestWhatIsNotKnownDecidesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	definite, unknown := 0, 0
	for range 3000 {
		now := world(r)
		old := now.asOf(3 + r.IntN(len(now.releases)-3))
		trees := randomTrees(r, now)
		m := now.models[r.IntN(len(now.models))]
		name := fmt.Sprintf("sm_%d%d", m.major, m.minor)
		oldTarget, err := old.parseTarget(name)
		newTarget, err2 := now.parseTarget(name)
		if err != nil || err2 != nil {
			continue // a number between those that are known
		}
		driver := now.releases[r.IntN(len(now.releases))].native
		if r.IntN(3) == 0 {
			driver = Driver(fmt.Sprint(driver.branch() + r.IntN(3)))
		}
		was := old.report(trees).Check(&Demand{Targets: []*Target{oldTarget}, Driver: driver})
		is := now.report(trees).Check(&Demand{Targets: []*Target{newTarget}, Driver: driver})
		if was.Outcome == Unknown {
			unknown++
			continue
		}
		definite++
		if is.Outcome != was.Outcome && is.Outcome != Unknown {
			t.Fatalf("%s, driver %s, %+v:\nold tables, up to CUDA %s: %+v\nnew: %+v", name, driver, trees[0].Facts.Files, old.releases[len(old.releases)-1].cuda,
				was.Targets[0].Reasons, is.Targets[0].Reasons)
		}
	}
	if definite < 500 || unknown < 300 {
		t.Errorf("%d definite verdicts, %d unknown: too few to say something", definite, unknown)
	}
}

// randomTrees makes one tree with libraries of a random release, for random GPUs.
func randomTrees(r *rand.Rand, w *tables) []Tree {
	made := w.releases[r.IntN(len(w.releases))]
	lib := File{Path: "lib/libx.so", Format: ELF, Arch: "amd64"}
	for range 1 + r.IntN(3) {
		m := w.models[r.IntN(len(w.models))]
		c := Code{Kind: SASS, Target: fmt.Sprintf("sm_%d%d", m.major, m.minor), Sections: 1, File: 1}
		if r.IntN(2) == 0 {
			c.Kind, c.ISA = PTXCode, made.isa
		}
		lib.Code = append(lib.Code, c)
		lib.Containers = append(lib.Containers, Container{Code: []int{len(lib.Code) - 1}, Count: 1})
	}
	runtime := File{Path: "lib/libcudart.so." + made.cuda.String() + ".1", Format: ELF, Arch: "amd64"}
	if r.IntN(4) == 0 {
		runtime.Path = "lib/libother.so"
		lib.Needed = []string{fmt.Sprintf("libcudart.so.%d", made.cuda.Major)}
	}
	return []Tree{{At: "/nix/store/00000000000000000000000000000000-x", Facts: &Facts{Files: []File{runtime, lib}}}}
}
