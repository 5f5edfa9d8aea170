package main

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/nix2img/nix2img/image"
)

// progress shows how far a build has come:
// in a bar on a terminal, and in a line from time to time elsewhere.
type progress struct {
	ui    *ui
	now   func() time.Time
	start time.Time
	shown time.Time
	rate  meter
}

func newProgress(u *ui, now func() time.Time) *progress {
	return &progress{ui: u, now: now, start: now(), shown: now()}
}

// update is a [image.Runtime]'s Progress.
func (p *progress) update(s image.Progress) {
	if p.ui.quiet {
		return
	}
	now := p.now()
	p.rate.add(now, s.Read)
	wait := 10 * time.Second
	if p.ui.live {
		wait = 100 * time.Millisecond
	}
	if now.Sub(p.shown) < wait {
		return
	}
	p.shown = now
	if p.ui.live {
		width, _, err := term.GetSize(int(p.ui.stderr.Fd()))
		if err != nil || width <= 0 {
			width = 80
		}
		p.ui.status(bar(s, p.rate.perSecond(), width-1))
		return
	}
	p.ui.infof("%s", strings.TrimSpace(strings.Join(figures(s, p.rate.perSecond()), ", ")))
}

// done removes the bar and returns how long it all took.
func (p *progress) done() time.Duration {
	p.ui.status("")
	return p.now().Sub(p.start)
}

// figures returns the numbers worth telling.
func figures(s image.Progress, rate float64) []string {
	var f []string
	if s.Total > 0 {
		f = append(f, fmt.Sprintf("%3d %%", min(100, s.Read*100/s.Total)),
			fmt.Sprintf("%s of %s", formatSize(min(s.Read, s.Total)), formatSize(s.Total)))
	} else {
		f = append(f, formatSize(s.Read))
	}
	if rate > 0 {
		f = append(f, formatSize(int64(rate))+"/s")
		if left := s.Total - s.Read; left > 0 {
			f = append(f, formatDuration(time.Duration(float64(left)/rate*float64(time.Second)))+" left")
		}
	}
	return f
}

// bar returns a status line of at most width columns.
func bar(s image.Progress, rate float64, width int) string {
	text := strings.Join(figures(s, rate), "  ")
	room := width - len(text) - 4
	if s.Total <= 0 || room < 10 {
		return text[:min(len(text), max(width, 0))]
	}
	room = min(room, 24)
	full := int(min(s.Read, s.Total) * int64(room) / s.Total)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", room-full) + "]  " + text
}

// formatDuration returns "0:08" or "1:02:03".
func formatDuration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// meter measures a rate over the last seconds.
type meter struct {
	samples []sample // one for each half second, oldest first
}

type sample struct {
	at time.Time
	n  int64
}

func (m *meter) add(at time.Time, n int64) {
	if k := len(m.samples); k > 1 && at.Sub(m.samples[k-2].at) < 500*time.Millisecond {
		m.samples[k-1] = sample{at, n}
		return
	}
	if len(m.samples) == 20 {
		m.samples = append(m.samples[:0], m.samples[1:]...)
	}
	m.samples = append(m.samples, sample{at, n})
}

// perSecond returns the rate, or 0 if too little is known.
func (m *meter) perSecond() float64 {
	if len(m.samples) < 2 {
		return 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	d := last.at.Sub(first.at).Seconds()
	if d < 0.2 {
		return 0
	}
	return float64(last.n-first.n) / d
}
