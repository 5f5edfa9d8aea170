package gpu

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Host is what a machine has.
type Host struct {
	Targets []*Target // each kind once, in the order in which they are listed
	Driver  Driver    // NVIDIA's; empty if it was not said
}

// Bounds of what is read of a machine, far above what there is to say of one.
const (
	maxHost    = 4 << 20 // bytes
	maxTargets = 256     // different names
)

// ReadHost reads what nvidia-smi prints of a machine, in one of these forms:
//
//	nvidia-smi -q -x
//	nvidia-smi --query-gpu=name,driver_version --format=csv    in any order of columns, with or without noheader
//	nvidia-smi -L
//
// It also takes a list of names, one a line. It is an error if there is no GPU in it, or one that is not known,
// or if several drivers are named.
func ReadHost(r io.Reader) (*Host, error) {
	if r == nil {
		return nil, errors.New("gpu: read list of GPUs: there is none")
	}
	data, err := io.ReadAll(io.LimitReader(r, maxHost+1))
	if err != nil {
		return nil, fmt.Errorf("gpu: read list of GPUs: %w", err)
	}
	if len(data) > maxHost {
		return nil, fmt.Errorf("gpu: read list of GPUs: more than %d bytes", maxHost)
	}
	h := new(Host)
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	if bytes.HasPrefix(data, []byte("<")) {
		err = h.readXML(data)
	} else {
		err = h.readTable(string(data))
	}
	if err == nil && len(h.Targets) == 0 {
		err = errors.New("there is none in it")
	}
	if err != nil {
		return nil, fmt.Errorf("gpu: read list of GPUs: %w", err)
	}
	return h, nil
}

func (h *Host) addGPU(name string) error {
	if slices.ContainsFunc(h.Targets, func(t *Target) bool { return t.Name == name }) {
		return nil
	}
	if len(h.Targets) == maxTargets {
		return fmt.Errorf("more than %d kinds", maxTargets)
	}
	t, err := ParseTarget(name)
	if err != nil {
		return err
	}
	h.Targets = append(h.Targets, t)
	return nil
}

func (h *Host) setDriver(version string) error {
	d, err := ParseDriver(version)
	if err != nil {
		return err
	}
	if h.Driver != "" && h.Driver != d {
		return fmt.Errorf("drivers %s and %s: which counts?", h.Driver, d)
	}
	h.Driver = d
	return nil
}

// readXML reads the elements driver_version and gpu/product_name of nvidia_smi_log.
func (h *Host) readXML(data []byte) error {
	d := xml.NewDecoder(bytes.NewReader(data))
	var open []string
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if open = append(open, token.Name.Local); len(open) > 64 {
				return errors.New("elements are too deep")
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			text := strings.TrimSpace(string(token))
			switch strings.Join(open[min(1, len(open)):], "/") {
			case "driver_version":
				err = h.setDriver(text)
			case "gpu/product_name":
				err = h.addGPU(text)
			}
			if err != nil {
				return err
			}
		}
	}
}

// listed is a line of nvidia-smi -L.
var listed = regexp.MustCompile(`^GPU [0-9]+: (.+?) \(UUID: [^)]*\)$`)

// readTable reads lines with a name, a driver, or both.
func (h *Host) readTable(text string) error {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := listed.FindStringSubmatch(line); m != nil {
			line = `"` + m[1] + `"`
		}
		if line == "" || strings.HasPrefix(line, "MIG ") || strings.HasPrefix(line, "#") {
			continue
		}
		r := csv.NewReader(strings.NewReader(line))
		r.TrimLeadingSpace = true
		fields, err := r.Read()
		if err != nil {
			return err
		}
		if err := h.readRow(fields); err != nil {
			return err
		}
	}
	return nil
}

// readRow takes columns for what they look like. Heads of columns say nothing.
func (h *Host) readRow(fields []string) error {
	if len(fields) > 64 {
		return errors.New("a line has more than 64 columns")
	}
	named := false
	for _, f := range fields {
		f = strings.TrimSpace(f)
		switch {
		case f == "" || f == "name" || f == "gpu_name" || f == "driver_version":
		case driverVersion.MatchString(f):
			if err := h.setDriver(f); err != nil {
				return err
			}
		case !named:
			named = true
			if err := h.addGPU(f); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q is neither a GPU nor a driver: ask nvidia-smi for --query-gpu=name,driver_version", f)
		}
	}
	return nil
}
