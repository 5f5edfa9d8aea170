package inspect_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"strings"
	"testing/fstest"

	"github.com/nix2img/nix2img/image/inspect"
)

// scripts is an inspector that finds scripts, what they are run by, and how many lines they have.
type scripts struct{}

// script is what it finds of one of them.
type script struct {
	Path  string `json:"path"`
	By    string `json:"by"`
	Lines int    `json:"lines"`
}

func (scripts) Name() string { return "scripts" }
func (scripts) Version() int { return 1 }

// Wants decides by the first bytes, which an inspector is shown in any case.
func (scripts) Wants(n *inspect.Node) inspect.Want {
	if n.IsFile() && n.Mode&0o111 != 0 && strings.HasPrefix(string(n.Head), "#!") {
		return inspect.Stream
	}
	return inspect.Nothing
}

func (scripts) Look(_ context.Context, f *inspect.File) (any, error) {
	by, _, _ := strings.Cut(string(f.Head[2:]), "\n")
	found := script{Path: f.Path, By: by}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		found.Lines++
	}
	return found, lines.Err()
}

func (scripts) Facts(findings []any) (any, error) { return findings, nil }

func Example() {
	tree := fstest.MapFS{
		"bin/hello": {Data: []byte("#!/bin/sh\necho hello\n"), Mode: 0o755},
		"bin/tool":  {Data: []byte("\x7fELF"), Mode: 0o755},
	}
	found, err := inspect.Find(context.Background(), tree, []inspect.Tree{{Root: ".", Inspectors: []inspect.Inspector{scripts{}}}}, 0)
	if err != nil {
		log.Fatal(err)
	}
	record, err := found[0].Marshal()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(record))

	var list []script
	if err := found[0].Decode(scripts{}, &list); err != nil {
		log.Fatal(err)
	}
	fmt.Println(list[0].Path, "is run by", list[0].By)
	// Output:
	// {"scripts":{"version":1,"data":[{"path":"bin/hello","by":"/bin/sh","lines":2}]}}
	// bin/hello is run by /bin/sh
}
