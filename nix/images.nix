# buildSif, buildOciSif, buildSquashfs and buildOci: container images of Nix packages.
# docs/nix.md describes the options, and what the results have.
{
  lib,
  nix2img,
  runCommand,
  writeShellScriptBin,
}:
let
  # What "nix2img build" calls each format, and the option that says where the image goes.
  formats = {
    sif = {
      extension = "sif";
      flags = [ "--sif" ];
      output = "-o";
    };
    oci-sif = {
      extension = "oci.sif";
      flags = [ "--oci-sif" ];
      output = "-o";
    };
    squashfs = {
      extension = "sqsh";
      flags = [ "--squashfs" ];
      output = "-o";
    };
    oci = {
      extension = "oci.tar";
      flags = [ ];
      output = "--oci-archive";
    };
    docker = {
      extension = "docker.tar";
      flags = [ ];
      output = "--docker-archive";
    };
  };

  # Command lines.
  sh = lib.escapeShellArgs;
  flag = name: value: [
    "--${name}"
    (toString value)
  ];
  optional = name: value: lib.optionals (value != null) (flag name value);
  repeated = name: values: lib.concatMap (flag name) values;
  pairs = name: attrs: repeated name (lib.mapAttrsToList (key: value: "${key}=${toString value}") attrs);
  words = value: if builtins.isList value then builtins.toJSON value else value;

  # Derivations that are made faster than fetched, and of no use in a binary cache.
  local = {
    nativeBuildInputs = [ nix2img ];
    preferLocalBuild = true;
    allowSubstitutes = false;
  };

  # What the image has, and how its programs are started: for every format.
  contentFlags =
    args:
    optional "entrypoint" (words args.entrypoint)
    ++ optional "cmd" (words args.cmd)
    ++ pairs "env" args.env
    ++ pairs "label" args.labels
    ++ optional "workdir" args.workingDir
    ++ repeated "file" (
      lib.mapAttrsToList (
        to: from:
        if from == null then
          to
        else if to == "/" then
          "${from}/.:/"
        else
          "${from}:${to}"
      ) args.files
    )
    ++ optional "arch" args.arch
    ++ optional "created" args.created
    ++ optional "nv" args.nv
    ++ optional "rocm" args.rocm
    ++ optional "mpi" args.mpi
    ++ gpuFlags args;

  # The GPUs and the driver that it is for.
  gpuFlags =
    args:
    lib.optionals (args.for != [ ]) (flag "for" (lib.concatStringsSep "," args.for))
    ++ optional "driver" args.driver
    ++ repeated "waive" args.waive;

  # How it is packed, as OCI layers and otherwise.
  layerFlags = args: dockerFlags args ++ pairs "annotation" args.annotations;
  # What docker load takes has no annotations.
  dockerFlags =
    args:
    optional "compression" args.compression
    ++ optional "user" args.user
    ++ repeated "expose" args.exposedPorts
    ++ optional "layers" args.layers;
  squashfsFlags = args: optional "compression" args.compression ++ optional "block-size" args.blockSize;

  defaults = {
    files = { };
    entrypoint = null;
    cmd = null;
    env = { };
    labels = { };
    workingDir = null;
    nv = null;
    rocm = null;
    mpi = null;
    for = [ ];
    driver = null;
    waive = [ ];
    arch = null;
    created = null;
    compression = null;
    blockSize = null;
    tag = null;
    user = null;
    exposedPorts = [ ];
    annotations = { };
    layers = null;
    discardReferences = true;
    checkArgs = [ "--version" ];
    gpuChecks = { };
    gpuBenchmarks = { };
    meta = { };
    passthru = { };
  };
  known = defaults // {
    format = null;
    roots = null;
    name = null;
  };

  buildImage =
    given:
    let
      unknown = builtins.attrNames (builtins.removeAttrs given (builtins.attrNames known));
      args = defaults // given;
      inherit (args) env;
      format =
        formats.${args.format}
          or (throw "nix2img: format ${args.format} is not one of ${toString (builtins.attrNames formats)}");
      name = args.name or (lib.getName (builtins.head args.roots));
      roots = map (root: "${root}") args.roots;

      packing =
        if format.output == "-o" then
          squashfsFlags args
        else
          layerFlags args ++ optional "tag" args.tag;
      source = sh ([ "--closure" "${closure}" ] ++ roots);
      # output is a word of the shell.
      build =
        output:
        "nix2img build ${sh format.flags} ${format.output} ${output} ${sh (packing ++ contentFlags args)} ${source}";

      # The store paths of the image, with their hashes, sizes and references.
      closure =
        runCommand "${name}-closure.json"
          (
            local
            // {
              __structuredAttrs = true;
              exportReferencesGraph.closure = roots;
            }
          )
          ''
            attributes=.attrs.json # Nix 2.8 has a name in the variable that is not the one inside the sandbox
            [ -e "$attributes" ] || attributes=$NIX_ATTRS_JSON_FILE
            nix2img closure --quiet --json --closure "$attributes" ${sh roots} >"$out"
          '';

      script =
        what: text:
        writeShellScriptBin "${what}-${name}" ''
          PATH=${nix2img}/bin''${PATH:+:$PATH}
          ${text}'';

      # A command that has the programs and variables of the image, in the sandbox of a build.
      run =
        what: features: arguments:
        runCommand "${name}-${what}" { requiredSystemFeatures = features; } ''
          export HOME=$NIX_BUILD_TOP PATH=${lib.concatMapStrings (root: "${root}/bin:") roots}$PATH
          ${lib.concatStrings (lib.mapAttrsToList (key: value: "export ${key}=${sh [ value ]}\n") env)}
          ${if builtins.isList arguments then sh arguments else arguments} >"$out" 2>&1 || {
            status=$?
            cat "$out" >&2
            exit $status
          }
        '';
      program =
        if args.entrypoint == null then
          [ (lib.getExe (builtins.head args.roots)) ]
        else if builtins.isList args.entrypoint then
          args.entrypoint
        else
          lib.filter (word: word != "") (lib.splitString " " args.entrypoint);

      results = args.passthru // {
        inherit closure image;
        imageName = name;

        stream = script "stream" ''
          exec ${build "-"} "$@"
        '';
        push = script "push" ''
          exec nix2img push ${sh (layerFlags args ++ contentFlags args)} "$@" ${source}
        '';
        copyTo = script "copy" (import ./copy.sh.nix {
          inherit name build source;
          content = sh (contentFlags args);
          layers = sh (layerFlags args);
          docker = sh (dockerFlags args);
          squashfs = sh (squashfsFlags args);
        });
        load = script "load" ''
          for engine in ''${1:-podman docker}; do
            if command -v "$engine" >/dev/null; then
              nix2img build --docker-archive - --tag ${
                sh [ (if args.tag == null then "${name}:latest" else args.tag) ]
              } ${sh (dockerFlags args ++ contentFlags args)} ${source} | "$engine" load
              exit
            fi
          done
          echo "load-${name}: there is no ''${1:-podman, and no docker} on PATH" >&2
          exit 1
        '';

        gpuReport = runCommand "${name}-gpu.json" local ''
          nix2img gpu --quiet --json ${sh (gpuFlags args)} ${source} >"$out" || [ $? = 6 ]
        '';
        checks = {
          runs = run "runs" [ ] (program ++ args.checkArgs);
        }
        // lib.optionalAttrs (args.for != [ ]) {
          gpuVerdict = runCommand "${name}-gpu-verdict" local ''
            nix2img gpu ${sh (gpuFlags args)} ${source} >"$out" || {
              status=$?
              cat "$out" >&2
              exit $status
            }
          '';
        };
        gpuChecks = lib.mapAttrs (check: run "gpu-check-${check}" [ "cuda" ]) args.gpuChecks;
        gpuBenchmarks = lib.mapAttrs (
          benchmark:
          run "gpu-benchmark-${benchmark}" [
            "cuda"
            "benchmark"
          ]
        ) args.gpuBenchmarks;
      };

      image =
        runCommand "${name}.${format.extension}"
          (
            local
            // {
              __structuredAttrs = true;
              # It has the names of its store paths in it, but needs none of them.
              unsafeDiscardReferences.out = args.discardReferences;
              passthru = results;
              inherit (args) meta;
            }
          )
          ''
            ${build "\"$out\""}
          '';
    in
    if unknown != [ ] then
      throw "nix2img: no such option: ${toString unknown}"
    else
      (script "build" ''
        output=''${1:-${name}.${format.extension}}
        [ $# = 0 ] || shift
        exec ${build "\"$output\""} "$@"
      '')
      // {
        inherit (args) meta;
      }
      // results;
in
{
  inherit buildImage;
  buildSif = args: buildImage ({ format = "sif"; } // args);
  buildOciSif = args: buildImage ({ format = "oci-sif"; } // args);
  buildSquashfs = args: buildImage ({ format = "squashfs"; } // args);
  buildOci = args: buildImage ({ format = "oci"; } // args);
}
