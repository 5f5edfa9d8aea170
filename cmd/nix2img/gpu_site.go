package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/BurntSushi/toml"

	"github.com/nix2img/nix2img/image/gpu"
)

// A partition is a part of a cluster whose nodes are alike.
type partition struct {
	name    string
	targets []*gpu.Target
	driver  gpu.Driver
}

// maxSite is how many bytes of a site file are read.
const maxSite = 64 << 10

// readSite reads a file that describes a cluster, in TOML:
//
//	[partitions.dgx]
//	gpus = ["H100"]      # as --for has them
//	driver = "550.54.14" # as --driver has it; not needed
func readSite(r io.Reader) ([]partition, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSite+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSite {
		return nil, fmt.Errorf("more than %d bytes", maxSite)
	}
	var site struct {
		Partitions map[string]described `toml:"partitions"`
	}
	meta, err := toml.NewDecoder(bytes.NewReader(data)).Decode(&site)
	if err != nil {
		return nil, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("%s: not a key of a site file", unknown[0])
	}
	if len(site.Partitions) == 0 {
		return nil, errors.New("it has no [partitions.NAME]")
	}
	var parts []partition
	for _, name := range slices.Sorted(maps.Keys(site.Partitions)) {
		p, err := site.Partitions[name].partition(name)
		if err != nil {
			return nil, fmt.Errorf("partition %s: %w", name, err)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// described is a partition as a site file has it.
type described struct {
	GPUs   []string `toml:"gpus"`
	Driver string   `toml:"driver"`
}

func (d described) partition(name string) (partition, error) {
	p := partition{name: name}
	if len(d.GPUs) == 0 {
		return p, errors.New("it has no gpus")
	}
	for _, g := range d.GPUs {
		t, err := gpu.ParseTarget(g)
		if err != nil {
			return p, err
		}
		p.targets = append(p.targets, t)
	}
	var err error
	if d.Driver != "" {
		p.driver, err = gpu.ParseDriver(d.Driver)
	}
	return p, err
}

// openSite reads the site file, and leaves the partitions that were asked for.
func (c *gpuCheck) openSite() error {
	if c.site == "" {
		return nil
	}
	f, err := os.Open(c.site)
	if err != nil {
		return err
	}
	defer f.Close()
	parts, err := readSite(f)
	if err != nil {
		return fmt.Errorf("--site %s: %w", c.site, err)
	}
	for _, name := range c.partitions {
		if !slices.ContainsFunc(parts, func(p partition) bool { return p.name == name }) {
			var names []string
			for _, p := range parts {
				names = append(names, p.name)
			}
			return usagef("--partition %s: %s has %s", name, filepath.Base(c.site), strings.Join(names, ", "))
		}
	}
	c.parts = slices.DeleteFunc(parts, func(p partition) bool { return len(c.partitions) > 0 && !slices.Contains(c.partitions, p.name) })
	return nil
}

// partitionVerdict is the verdict for one partition.
type partitionVerdict struct {
	Partition string `json:"partition"`
	*gpu.Verdict
}

// onSite compares with each partition.
func (c *gpuCheck) onSite(r *gpu.Report) []partitionVerdict {
	var verdicts []partitionVerdict
	for _, p := range c.parts {
		d := c.demand
		d.Targets, d.Driver = p.targets, p.driver
		verdicts = append(verdicts, partitionVerdict{p.name, r.Check(&d)})
	}
	return verdicts
}

// judgeSite fails if the image will not run on one of the partitions that were named,
// or, if none was, on any of the site.
func (c *gpuCheck) judgeSite(u *ui, verdicts []partitionVerdict) error {
	var failed []string
	for _, p := range verdicts {
		for i := range p.Targets {
			switch t := &p.Targets[i]; {
			case t.Outcome == gpu.WillFail:
				failed = append(failed, fmt.Sprintf("%s (%s): %s", p.Partition, t.Name(), reasonText(t)))
			case t.Outcome != gpu.Runs && len(c.partitions) > 0:
				u.warnf("%s: %s: %s: %s", p.Partition, t.Name(), outcomeText(t), reasonText(t))
			}
		}
	}
	runs := slices.ContainsFunc(verdicts, func(p partitionVerdict) bool { return p.Outcome != gpu.WillFail })
	if failed == nil || len(c.partitions) == 0 && runs {
		return nil
	}
	return &targetError{fmt.Errorf("will not run on %s", strings.Join(failed, "; nor on "))}
}

// printSite prints a table of the partitions.
func printSite(out io.Writer, verdicts []partitionVerdict) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "partition\tGPU\tdriver\t")
	for _, p := range verdicts {
		for i := range p.Targets {
			t := &p.Targets[i]
			text := outcomeText(t)
			if reasons := shownReasons(t); len(reasons) > 0 && t.Outcome != gpu.Runs {
				text += ": " + reasons[0]
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(p.Partition), printable(t.Name()), p.Driver, printable(text))
		}
	}
	w.Flush()
}
