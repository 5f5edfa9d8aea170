# nix2img for Nix without flakes: the command, and the functions that make images.
#
#   nix-build -A nix2img
#   (import nix2img { inherit pkgs; }).buildSif { roots = [ pkgs.hello ]; }
{
  pkgs ? import <nixpkgs> { },
}:
import ./nix pkgs
