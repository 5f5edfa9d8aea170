# Everything that the project has for Nix, made of a nixpkgs.
pkgs:
let
  command = pkgs.callPackage ./package.nix { };
  images = import ./images.nix {
    inherit (pkgs) lib runCommand writeShellScriptBin;
    nix2img = command;
  };
  bundlers = import ./bundlers.nix {
    inherit (pkgs) lib;
    inherit (images) buildImage;
  };
  functions = images // {
    inherit (bundlers) mkBundler;
    compat = import ./compat.nix {
      inherit (pkgs) lib runCommand writeTextFile;
      inherit (images) buildImage buildSif;
    };
  };
in
functions
// {
  # The command. It has the functions as attributes, too: pkgs.nix2img.buildSif.
  nix2img = command // functions;
  static = pkgs.pkgsStatic.callPackage ./package.nix { };
  bundlers = builtins.removeAttrs bundlers [ "mkBundler" ];
  inherit functions;
}
