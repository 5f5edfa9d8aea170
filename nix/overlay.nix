# Adds pkgs.nix2img to a nixpkgs: the command, with pkgs.nix2img.buildSif and the other functions.
final: _: { inherit (import ./. final) nix2img; }
