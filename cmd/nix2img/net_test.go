package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nix2img/nix2img/internal/elf"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// netFile returns a program or a library with texts in it.
func netFile(o elftest.Object, texts ...string) []byte {
	o.Arch = "amd64"
	o.Sections = []elftest.Section{{Name: ".rodata", Flags: elf.SectionAlloc, Data: []byte("\x00" + strings.Join(texts, "\x00") + "\x00")}}
	return o.Bytes()
}

// provider has the names of functions that libfabric has if a provider is built in.
func provider(prefix string) (names []string) {
	for i := range 5 {
		names = append(names, fmt.Sprint(prefix, "function_", i))
	}
	return names
}

// netObjects are the objects of a store.
var netObjects = []testObject{
	{"a-glibc-2.36", "", map[string][]byte{
		"lib/libc.so.6": netFile(elftest.Object{Soname: "libc.so.6", Defines: []string{"GLIBC_2.2.5", "GLIBC_2.36"}}),
		"lib/ld.so":     netFile(elftest.Object{Soname: "ld.so"}),
	}},
	{"b-libfabric-1.22.0", "a", map[string][]byte{
		"lib/libfabric.so.1": netFile(elftest.Object{Soname: "libfabric.so.1"}, append(provider("xnet_"), "1.22.0")...),
	}},
	{"c-mpich-4.2.0", "b", map[string][]byte{
		"lib/libmpi.so.12": netFile(elftest.Object{Soname: "libmpi.so.12", Needed: []string{"libfabric.so.1"}, RunPath: gpuStore + "b-libfabric-1.22.0/lib"},
			"MPICH Version:\t%s\n", "4.2.0", "ch4:ofi", "PMI_FD"),
	}},
	{"d-openmpi-5.0.6", "a", map[string][]byte{
		"lib/libmpi.so.40": netFile(elftest.Object{Soname: "libmpi.so.40"}, "Open MPI v%d.%d.%d", "5.0.6"),
	}},
	{"h-app-1.0", "a c", map[string][]byte{"bin/app": netFile(elftest.Object{
		Interp: gpuStore + "a-glibc-2.36/lib/ld.so", Needed: []string{"libmpi.so.12", "libc.so.6"}, RunPath: gpuStore + "c-mpich-4.2.0/lib",
	})}},
	{"f-both-1.0", "a c d", map[string][]byte{"bin/both": netFile(elftest.Object{
		Interp: gpuStore + "a-glibc-2.36/lib/ld.so", Needed: []string{"libmpi.so.12", "libmpi.so.40"},
		RunPath: gpuStore + "c-mpich-4.2.0/lib:" + gpuStore + "d-openmpi-5.0.6/lib",
	})}},
	{"g-plain-1.0", "", map[string][]byte{"bin/plain": elftest.Program("amd64", "")}},
}

// TestNetScript runs the scripts in testdata/net, in a directory with a store and libraries of a host.
func TestNetScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/net",
		Setup: func(env *testscript.Env) error {
			env.Setenv("STORE", gpuStore)
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/caches")
			for name, version := range map[string]string{"old.so": "GLIBC_2.34", "new.so": "GLIBC_2.38"} {
				data := netFile(elftest.Object{Soname: "libmpi.so.12", Needed: []string{"libc.so.6"}, Versions: []string{version}}, "CRAY MPICH version 8.1.28")
				if err := os.WriteFile(env.WorkDir+"/"+name, data, 0o666); err != nil {
					return err
				}
			}
			return makeTestStore(env.WorkDir+"/store", netObjects)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"code": checkCode, "valid": checkSchema},
	})
}
