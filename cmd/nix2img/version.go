package main

import (
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"

	"github.com/nix2img/nix2img/image"
)

// codecModules are the libraries on whose versions an image's bytes depend.
var codecModules = []string{
	"github.com/DataDog/zstd",
	"github.com/klauspost/compress",
	"github.com/pierrec/lz4/v4",
	"github.com/ulikunitz/xz",
}

// versionResult is what "version --json" prints.
type versionResult struct {
	Version   string            `json:"version"`
	Go        string            `json:"go"`
	Platform  string            `json:"platform"`
	Libraries map[string]string `json:"libraries"` // their versions, by module
}

func newVersion(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and those of the compressors",
		Long: `Print the version of nix2img and those of the libraries that compress.
Images have the same bytes if all of these are the same.`,
		Args: exactArgs(0, "none"),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := &versionResult{image.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, libraries()}
			if asJSON {
				return printEnvelope(a.ui, "version", v)
			}
			a.ui.resultf("nix2img %s\n", v.Version)
			for _, name := range codecModules {
				if version := v.Libraries[name]; version != "" {
					a.ui.resultf("%s %s\n", name, version)
				}
			}
			return a.ui.resultf("%s %s\n", v.Go, v.Platform)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// libraries returns the versions of codecModules in this program.
func libraries() map[string]string {
	versions := make(map[string]string)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return versions
	}
	for _, m := range info.Deps {
		if slices.Contains(codecModules, m.Path) {
			for m.Replace != nil {
				m = m.Replace
			}
			versions[m.Path] = m.Version
		}
	}
	return versions
}
