# The closure in hello.export.  It needs no nixpkgs: builders use the tools of a Debian system.
{ muslLib, muslCopyright }:
let
  build = name: script: env: derivation (env // {
    inherit name;
    system = "x86_64-linux";
    PATH = "/usr/bin:/bin";
    LC_ALL = "C";
    builder = "/bin/sh";
    args = [ "-eu" script ];
  });
  file = path: name: builtins.path { inherit path name; recursive = false; };

  musl = build "musl-1.2.3" ./build-musl.sh {
    musl = file muslLib "libc.so";
    licence = file muslCopyright "copyright";
  };
  tale = build "tale-1.0" ./build-tale.sh { };
  oddities = build "oddities-1.0" ./build-oddities.sh { inherit tale; };

  # a path that is a single file, and one that is a symbolic link
  greeting = file ./greeting.txt "greeting.txt";
  current = build "tale" ./build-current.sh { inherit tale; };
in
build "hello-1.0" ./build-hello.sh {
  inherit musl tale oddities greeting current;
  csrc = builtins.path {
    path = ./.;
    name = "hello-source";
    filter = path: type: builtins.match ".*\\.c" path != null;
  };
}
