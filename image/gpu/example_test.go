package gpu_test

import (
	"context"
	"fmt"
	"log"
	"testing/fstest"

	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

func Example() {
	library := gputest.Library(elftest.Object{}, gputest.SASS("sm_80", "sm_86"), "libcuda.so.1")
	tree := fstest.MapFS{"lib/libkernels.so": {Data: library}}

	facts, err := gpu.Inspect(context.Background(), tree, ".", nil)
	if err != nil {
		log.Fatal(err)
	}
	report := gpu.New([]gpu.Tree{{At: "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-kernels-1.0", Facts: facts}})
	for _, name := range []string{"A100", "H100"} {
		target, err := gpu.ParseTarget(name)
		if err != nil {
			log.Fatal(err)
		}
		verdict := report.Check(&gpu.Demand{Targets: []*gpu.Target{target}})
		fmt.Println(name, verdict.Outcome)
		for _, reason := range verdict.Targets[0].Reasons {
			fmt.Println(" ", reason.Text)
		}
	}
	// Output:
	// A100 runs
	// H100 fails
	//   has no code for sm_90, only for sm_80 sm_86
}
