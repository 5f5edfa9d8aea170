package main

import (
	"strings"
	"testing"
)

const siteFile = `# our cluster
[partitions.dgx]
gpus = ["H100", "A100"]
driver = "550.54.14"

[partitions."old one"]
gpus = ["V100"]
`

// A site file says which GPUs and drivers there are, and a mistake in it is an error.
func TestReadSite(t *testing.T) {
	parts, err := readSite(strings.NewReader(siteFile))
	if err != nil || len(parts) != 2 || parts[0].name != "dgx" || len(parts[0].targets) != 2 || parts[0].driver != "550.54.14" || parts[1].driver != "" {
		t.Errorf("got %+v, %v", parts, err)
	}
	for text, want := range map[string]string{
		"":                                      "no [partitions.NAME]",
		"[partitions.a]\n":                      "partition a: it has no gpus",
		"[partitions.a]\ngpus = 3\n":            "gpus",
		"[partitions.a]\ngpus = []\n":           "it has no gpus",
		"[partitions.a]\ngpus = [\"Voodoo\"]\n": "partition a: \"Voodoo\" is not a GPU",
		"[partitions.a]\ngpus = [\"A100\"]\ndriver = \"new\"\n":      "partition a: \"new\" is not a driver",
		"[partitions.a]\ngpus = [\"A100\"]\ndrivers = \"550.1\"\n":   "partitions.a.drivers: not a key",
		"[partition.a]\ngpus = [\"A100\"]\n":                         "not a key",
		"[partitions.a]\ngpus = [\"A100\"]\n[partitions.a]\n":        "partitions.a",
		strings.Repeat("#", maxSite+1):                               "more than",
		"[partitions.a]\ngpus = [\"A100\"\n":                         "array",
		"[partitions.a]\ngpus = [\"A100\"]\ndriver = 550.54\n":       "driver",
		"partitions = 3\n":                                           "partitions",
		"[partitions.a]\ngpus = [\"A100\"]\n[[partitions.b]]\nx=1\n": "partitions",
	} {
		if _, err := readSite(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want %s", text, err, want)
		}
	}
}

// FuzzSite reads anything as a site file.
func FuzzSite(f *testing.F) {
	f.Add(siteFile)
	f.Add("[partitions]\na.gpus = [\"A100\"]\n")
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := readSite(strings.NewReader(text))
		if err == nil && len(parts) == 0 {
			t.Error("no partitions, and no error")
		}
		for _, p := range parts {
			if len(p.targets) == 0 {
				t.Errorf("%q has no GPUs", p.name)
			}
		}
	})
}
