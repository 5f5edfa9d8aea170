package gpu_test

import (
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image/gpu"
)

const smiXML = `<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
	<timestamp>Wed Nov 25 10:00:00 2026</timestamp>
	<driver_version>550.54.14</driver_version>
	<cuda_version>12.4</cuda_version>
	<attached_gpus>2</attached_gpus>
	<gpu id="00000000:01:00.0">
		<product_name>NVIDIA A100-SXM4-80GB</product_name>
		<product_brand>NVIDIA</product_brand>
		<mig_devices><mig_device><product_name>inner</product_name></mig_device></mig_devices>
	</gpu>
	<gpu id="00000000:02:00.0"><product_name>NVIDIA H100 80GB HBM3</product_name></gpu>
	<gpu id="00000000:03:00.0"><product_name>NVIDIA H100 80GB HBM3</product_name></gpu>
</nvidia_smi_log>
`

// What nvidia-smi prints says what a machine has.
func TestReadHost(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"XML":             {smiXML, "sm_80 sm_90 550.54.14"},
		"CSV":             {"name, driver_version\nNVIDIA A100-SXM4-80GB, 535.129.03\nNVIDIA A100-SXM4-80GB, 535.129.03\n", "sm_80 535.129.03"},
		"CSV, no header":  {"535.129.03, Tesla T4\r\n", "sm_75 535.129.03"},
		"names alone":     {"name\nNVIDIA H200\n", "sm_90"},
		"-L":              {"GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-d1e1)\n  MIG 1g.5gb     Device  0: (UUID: MIG-1)\nGPU 1: Tesla V100-SXM2-32GB (UUID: GPU-2)\n", "sm_80 sm_70"},
		"list":            {"# the cluster\nH100\nMI300X\n", "sm_90 gfx942"},
		"nothing":         {"", "there is none"},
		"header alone":    {"name, driver_version\n", "there is none"},
		"unknown":         {"name\nVoodoo 2\n", "not a GPU that is known"},
		"two drivers":     {"A100, 535.129.03\nA100, 550.54.14\n", "which counts"},
		"other columns":   {"NVIDIA A100, 0, 535.129.03\n", "neither a GPU nor a driver"},
		"cut XML":         {smiXML[:len(smiXML)/2], "EOF"},
		"XML without GPU": {"<nvidia_smi_log><driver_version>550.54.14</driver_version></nvidia_smi_log>", "there is none"},
		"entities":        {`<!DOCTYPE x [<!ENTITY a "aaaa">]><nvidia_smi_log><gpu><product_name>&a;</product_name></gpu></nvidia_smi_log>`, "invalid character entity"},
		"long":            {strings.Repeat("A100\n", 1<<20), "more than"},
	} {
		h, err := gpu.ReadHost(strings.NewReader(test.text))
		var words []string
		if err != nil {
			words = []string{err.Error()}
		} else {
			for _, target := range h.Targets {
				words = append(words, target.Code)
			}
			if h.Driver != "" {
				words = append(words, h.Driver.String())
			}
		}
		if got := strings.Join(words, " "); err == nil && got != test.want || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

// FuzzHost reads anything as the output of nvidia-smi, and each of its lines as the name of a GPU and as a driver.
func FuzzHost(f *testing.F) {
	f.Add(smiXML)
	f.Add("name, driver_version\nNVIDIA A100-SXM4-80GB, 535.129.03\n")
	f.Add("GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-d1e1)\n")
	f.Add("gres/gpu:a100:4\nR535\nsm_90a\ngfx9-4-generic\nRTX 4070Ti")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := gpu.ReadHost(strings.NewReader(text)); err == nil && (len(h.Targets) == 0 || len(h.Targets) > 256) {
			t.Errorf("%d GPUs", len(h.Targets))
		}
		for line := range strings.Lines(text) {
			if target, err := gpu.ParseTarget(line); err == nil && target.Code == "" {
				t.Errorf("%q: %+v", line, target)
			}
			if d, err := gpu.ParseDriver(line); err == nil && d.Compare(d) != 0 {
				t.Errorf("%q: %s", line, d)
			}
		}
	})
}
