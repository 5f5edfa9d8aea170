package image_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// gpuFiles are closures with a need of a GPU, or none, by what they have.
func gpuFiles() map[string]files {
	library := func(soname string, fatbin []byte, names ...string) string {
		return string(gputest.Library(elftest.Object{Soname: soname}, fatbin, names...))
	}
	cudart := object("cuda_cudart-12.4.127") + "/lib/libcudart.so.12.4.127"
	ptx := gputest.Fatbin(gputest.Entry{Kind: gputest.PTX, SM: 80, ISA: 84})
	hip := elftest.Object{Arch: "amd64", Sections: []elftest.Section{{Name: ".hip_fatbin", Align: 4096, Data: gputest.Bundle("gfx90a")}}}
	all := map[string]files{
		"nothing":  {},
		"optional": {hello + "/lib/libav.so": library("libav.so", nil, "libcuda.so.1", "libnvcuvid.so.1")},
		"linked":   {hello + "/lib/libx.so": string(gputest.Library(elftest.Object{Needed: []string{"libcuda.so.1"}}, nil))},
		"cudart":   {cudart: library("libcudart.so.12", nil)},
		"SASS":     {cudart: library("libcudart.so.12", nil), hello + "/lib/libk.so": library("libk.so", gputest.SASS("sm_80", "sm_90"))},
		"PTX":      {cudart: library("libcudart.so.12", nil), hello + "/lib/libk.so": library("libk.so", ptx)},
		"HIP":      {hello + "/lib/libk.so": string(hip.Bytes())},
		"hip":      {hello + "/lib/libamdhip64.so.6": library("libamdhip64.so.6", nil)},
		"compat": {
			cudart:                                  library("libcudart.so.12", nil),
			jetson + "/compat/libcuda.so.560.35.03": library("libcuda.so.1", nil),
		},
	}
	for _, f := range all {
		f[hello+"/bin/hello"] = elfFile("amd64", "")
	}
	return all
}

func TestGPUIsServedIfNeeded(t *testing.T) {
	all := gpuFiles()
	for _, test := range []struct {
		files    string
		nv, rocm image.Choice
		want     string // "nv", "rocm", the environment's NVIDIA_REQUIRE_CUDA
		use      gpu.Use
	}{
		{"nothing", image.Auto, image.Auto, "", gpu.UseNone},
		{"nothing", image.Yes, image.Auto, "nv", gpu.UseNone},
		{"nothing", image.Auto, image.Yes, "rocm", gpu.UseNone},
		{"optional", image.Auto, image.Auto, "", gpu.UseOptional},
		{"linked", image.Auto, image.Auto, "nv", gpu.UseGPU},
		{"cudart", image.Auto, image.Auto, "nv cuda>=12.0", gpu.UseGPU},
		{"SASS", image.Auto, image.Auto, "nv cuda>=12.0", gpu.UseGPU},
		{"SASS", image.No, image.Auto, "", gpu.UseGPU},
		{"SASS", image.No, image.No, "", ""},
		{"PTX", image.Auto, image.Auto, "nv cuda>=12.4", gpu.UseGPU},
		{"HIP", image.Auto, image.Auto, "rocm", gpu.UseGPU},
		{"HIP", image.Auto, image.No, "", gpu.UseGPU},
		{"hip", image.Auto, image.Auto, "rocm", gpu.UseGPU},
		{"compat", image.Auto, image.Auto, "nv", gpu.UseGPU},
	} {
		img := &image.Image{Closure: closureOf(all[test.files], hello), GPU: image.GPU{NV: test.nv, ROCm: test.rocm}}
		r := resolve(t, img)
		var got []string
		if r.NV {
			got = append(got, "nv")
		}
		if r.ROCm {
			got = append(got, "rocm")
		}
		for _, kv := range r.OCIEnv() {
			if value, ok := strings.CutPrefix(kv, "NVIDIA_REQUIRE_CUDA="); ok {
				got = append(got, value)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
		rec, err := r.Record()
		if err != nil {
			t.Fatal(err)
		}
		var use gpu.Use
		if r.Report != nil {
			use = r.Report.Use
		}
		if use != test.use || (rec.GPU != nil) != (use != "" && use != gpu.UseNone) || rec.NV != r.NV || rec.ROCm != r.ROCm {
			t.Errorf("%+v: it is used as %q, the record has %+v", test, use, rec.GPU)
		}
	}
}

func TestGPULabels(t *testing.T) {
	img := &image.Image{Closure: closureOf(gpuFiles()["SASS"], hello)}
	img.Config.Labels = map[string]string{"org.nix2img.cuda.version": "mine"}
	got := resolve(t, img).Config.Labels
	equalMaps(t, "labels", got, map[string]string{
		"org.nix2img.cuda.version":    "mine",
		"org.nix2img.cuda.sass":       "sm_80 sm_90",
		"org.nix2img.cuda.driver":     "550.54.14",
		"org.nix2img.cuda.min-driver": "525.60.13",
		"org.nix2img.gpu.use":         "gpu",
	})
	if len(img.Config.Labels) != 1 {
		t.Errorf("the caller's labels have become %v", img.Config.Labels)
	}
}

func TestAccept(t *testing.T) {
	refused := errors.New("refused")
	img := &image.Image{Closure: closureOf(gpuFiles()["SASS"], hello)}
	img.GPU = image.GPU{NV: image.No, ROCm: image.No}
	rt := &image.Runtime{Accept: func(r *gpu.Report) error {
		if !slices.ContainsFunc(r.Libraries, func(l gpu.Library) bool { return strings.HasSuffix(l.Path, "/lib/libk.so") }) {
			t.Error("the report does not have libk.so")
		}
		return refused
	}}
	if _, err := img.Resolve(t.Context(), rt); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

// A compatibility package that says which drivers it works with is used with no others.
func TestCompatNote(t *testing.T) {
	const name, text = "NVIDIA Corporation\x00", `{"format":1,"CUDA version":"12.9","driver":[535,550,575],"device":[1]}`
	note := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	note = binary.LittleEndian.AppendUint32(note, uint32(len(text)))
	note = append(binary.LittleEndian.AppendUint32(note, 0), name+"\x00"+text...)
	compatible := elftest.Object{Arch: "amd64", Soname: "libcuda.so.1", Sections: []elftest.Section{{Name: ".note.cuda.fwd_compatibility", Data: note}}}
	f := gpuFiles()["SASS"]
	f[object("forward-575")+"/lib/libcuda.so.575.57.08"] = string(compatible.Bytes())
	img := &image.Image{Closure: closureOf(f, hello)}
	for branch, want := range map[string]string{
		"535.54.03": compat + ":" + libs,
		"545.23.08": libs,
		"550.54.14": compat + ":" + libs,
		"575.51.03": libs,
		"590.44.01": libs,
	} {
		c := scriptCase{img: img, host: with(libs, "libcuda.so.1").with(version, driver(branch)).with(gpu0, tesla)}
		if got := evaluate(t, c.text(t), c.host)["LD_LIBRARY_PATH"]; got != want {
			t.Errorf("%s: got %q, want %q", branch, got, want)
		}
	}
}
