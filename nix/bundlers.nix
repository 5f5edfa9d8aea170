# Bundlers for "nix bundle": functions of a derivation, or an app, that give an image.
{ lib, buildImage }:
let
  # The store path that a file such as an app's program is in, as a root.
  storePathOf =
    file:
    let
      base = builtins.head (builtins.match "${builtins.storeDir}/([^/]+)(/.*)?" "${file}");
      length = builtins.stringLength "${builtins.storeDir}/${base}";
    in
    # substring keeps the context: what the file is made by.
    builtins.substring 0 length "${file}";

  bundle =
    options: format: what:
    let
      isApp = what.type or null == "app";
      program = "${what.program}";
    in
    (buildImage (
      options
      // (
        if isApp then
          {
            name = baseNameOf (builtins.unsafeDiscardStringContext program);
            roots = [ (storePathOf program) ];
            entrypoint = [ program ];
          }
        else
          { roots = [ what ]; }
      )
      // {
        inherit format;
      }
    )).image;

  mkBundlers = options: rec {
    default = toSif;
    toSif = bundle options "sif";
    toSquashfs = bundle options "squashfs";
    toOci = bundle options "oci";
  };
in
mkBundlers { }
// {
  # A bundler with options of buildSif and its kin, format among them.
  mkBundler = options: bundle (builtins.removeAttrs options [ "format" ]) (options.format or "sif");
}
