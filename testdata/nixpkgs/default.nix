# A stand-in for nixpkgs: as much of it as the project's Nix expressions use, and what it has builds.
#
# The tests add two static programs: bin/busybox, which is the builder,
# and command/nix2img, which takes the place of what buildGoModule makes.
{
  system ? "x86_64-linux",
  config ? { },
  overlays ? [ ],
}:
let
  lib = rec {
    inherit (builtins) filter mapAttrs;
    concatMap = builtins.concatMap or (f: list: builtins.concatLists (map f list));
    concatStringsSep = builtins.concatStringsSep;
    concatStrings = concatStringsSep "";
    concatMapStrings = f: list: concatStrings (map f list);
    mapAttrsToList = f: attrs: map (name: f name attrs.${name}) (builtins.attrNames attrs);
    optionals = condition: list: if condition then list else [ ];
    optionalString = condition: string: if condition then string else "";
    optionalAttrs = condition: attrs: if condition then attrs else { };
    hasPrefix = prefix: string: builtins.substring 0 (builtins.stringLength prefix) string == prefix;
    hasSuffix =
      suffix: string:
      let
        length = builtins.stringLength suffix;
        all = builtins.stringLength string;
      in
      all >= length && builtins.substring (all - length) length string == suffix;
    splitString = separator: string: filter builtins.isString (builtins.split separator string);
    escapeShellArg = arg: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString arg)}'";
    escapeShellArgs = list: concatStringsSep " " (map escapeShellArg list);
    getName = drv: drv.pname or (builtins.parseDrvName drv.name).name;
    getExe = drv: "${drv}/bin/${drv.meta.mainProgram or (getName drv)}";
    licenses.asl20.spdxId = "Apache-2.0";
    platforms.unix = [ system ];
  };

  # A derivation whose builder is busybox, with or without structured attributes.
  runCommand =
    name: attrs: script:
    let
      inputs = attrs.nativeBuildInputs or [ ] ++ [ tools ];
      drv = derivation (
        builtins.removeAttrs attrs [
          "nativeBuildInputs"
          "passthru"
          "meta"
        ]
        // {
          inherit name system;
          builder = "${./bin}/busybox";
          args = [
            "sh"
            "-euc"
            ''
              export PATH=${lib.concatMapStrings (input: "${input}/bin:") inputs}
              if [ -e .attrs.json ]; then
                out=$(sed 's/.*"outputs":{"out":"\([^"]*\)".*/\1/' .attrs.json)
              fi
              export out
              ${script}
            ''
          ];
        }
      );
    in
    drv // { meta = attrs.meta or { }; } // attrs.passthru or { };

  tools = derivation {
    name = "busybox-tools";
    inherit system;
    builder = "${./bin}/busybox";
    args = [
      "sh"
      "-euc"
      ''
        ${./bin}/busybox mkdir -p "$out/bin"
        for tool in $(${./bin}/busybox --list); do ${./bin}/busybox ln -s ${./bin}/busybox "$out/bin/$tool"; done
      ''
    ];
  };

  writeTextFile =
    {
      name,
      text,
      executable ? false,
      destination ? "",
    }:
    runCommand name
      {
        inherit text;
        passAsFile = [ "text" ];
      }
      ''
        mkdir -p "$(dirname "$out${destination}")"
        cp "$textPath" "$out${destination}"
        chmod ${if executable then "755" else "644"} "$out${destination}"
      '';

  base = {
    inherit
      lib
      runCommand
      writeTextFile
      system
      config
      ;
    busybox = tools;
    writeShellScriptBin =
      name: text:
      writeTextFile {
        inherit name;
        executable = true;
        destination = "/bin/${name}";
        text = "#!${tools}/bin/sh\n${text}\n";
      };
    installShellFiles = tools;
    stdenv = {
      hostPlatform.isStatic = false;
      buildPlatform.canExecute = _: false;
    };
    # It has no Go and no network. What it would build lies beside this file.
    buildGoModule =
      args:
      runCommand "${args.pname}-${args.version}"
        {
          inherit (args) meta;
          passthru = {
            inherit (args) pname version vendorHash src;
          };
        }
        ''
          mkdir -p "$out/bin"
          cp ${./command}/nix2img "$out/bin/nix2img"
        '';
    hello = runCommand "hello-2.10" { meta.mainProgram = "hello"; } ''
      mkdir -p "$out/bin"
      printf '#!%s\necho "Hello, $*!"\n' ${tools}/bin/sh >"$out/bin/hello"
      chmod 755 "$out/bin/hello"
    '';
  };

  final = builtins.foldl' (pkgs: overlay: pkgs // overlay final pkgs) (
    base
    // {
      callPackage =
        file: args:
        let
          f = if builtins.isFunction file then file else import file;
        in
        f (builtins.intersectAttrs (builtins.functionArgs f) final // args);
      pkgsStatic = final;
    }
  ) overlays;
in
final
