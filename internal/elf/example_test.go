package elf_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/nix2img/nix2img/internal/elf"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

func ExampleRead() {
	program := elftest.Program("arm64", "/lib/ld-linux-aarch64.so.1")
	fmt.Printf("%x\n", sha256.Sum256(program))
	f, err := elf.Read(bytes.NewReader(program))
	fmt.Println(f.Arch, f.Interp, err)
	// Output:
	// 7e1654435fb088e5637550f5e20329d6e3678651eaf76ed228846f01eef16e4f
	// arm64 /lib/ld-linux-aarch64.so.1 <nil>
}
