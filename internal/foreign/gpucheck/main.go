//go:build unix

// Command gpucheck makes what testdata/gpu-check.sh needs, and takes the part of a container runtime:
//
//	gpucheck fatbin OUT KIND:SM:ISA:FILE...    a CUDA container; KIND is cubin or ptx, SM 80 for sm_80, ISA 60 for PTX 6.0
//	gpucheck path-info DIR                     metadata of the store paths in DIR/nix/store, as nix path-info --json prints them
//	gpucheck exec ROOT -- PROGRAM...           what --nv does after it has bound the driver's libraries
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/internal/foreign/container"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("gpucheck: ")
	if len(os.Args) < 3 {
		log.Fatal("usage: gpucheck fatbin|path-info|exec ...")
	}
	var err error
	switch args := os.Args[2:]; os.Args[1] {
	case "fatbin":
		err = fatbin(args[0], args[1:])
	case "path-info":
		err = pathInfo(args[0])
	case "exec":
		err = container.Exec(args)
	default:
		err = fmt.Errorf("%s: no such command", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}

func fatbin(out string, words []string) error {
	var entries []gputest.Entry
	for _, word := range words {
		fields := strings.SplitN(word, ":", 4)
		if len(fields) != 4 {
			return fmt.Errorf("%s: want KIND:SM:ISA:FILE", word)
		}
		var e gputest.Entry
		if _, err := fmt.Sscan(fields[1]+" "+fields[2], &e.SM, &e.ISA); err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
		data, err := os.ReadFile(fields[3])
		if err != nil {
			return err
		}
		switch fields[0] {
		case "cubin":
			e.Kind, e.Payload = gputest.Cubin, data
		case "ptx":
			e.Kind, e.Payload = gputest.PTX, append(data, 0)
		default:
			return fmt.Errorf("%s: want cubin or ptx", word)
		}
		entries = append(entries, e)
	}
	return os.WriteFile(out, gputest.Fatbin(entries...), 0o666)
}

func pathInfo(dir string) error {
	type info struct {
		Path       string   `json:"path"`
		NARHash    string   `json:"narHash"`
		NARSize    int64    `json:"narSize"`
		References []string `json:"references"`
	}
	store := filepath.Join(dir, "nix/store")
	entries, err := os.ReadDir(store)
	if err != nil {
		return err
	}
	infos := []info{}
	for _, e := range entries {
		hash, size, err := narhash.Sum(context.Background(), closure.DirFS(store), e.Name())
		if err != nil {
			return err
		}
		infos = append(infos, info{"/nix/store/" + e.Name(), hash.String(), size, []string{}})
	}
	return json.NewEncoder(os.Stdout).Encode(infos)
}
