# A CUDA program for Jetson boards: saxpy of nixpkgs, for Orin.
#
#   nix-build -I nixpkgs=channel:nixos-unstable
#
# On another machine than a board, that takes a builder for aarch64-linux, or binfmt.
# With capabilities of Jetsons alone, nixpkgs adds cuda_compat.
{
  nixpkgs ? <nixpkgs>,
  cudaCapabilities ? [ "8.7" ],
}:
let
  pkgs = import nixpkgs {
    system = "aarch64-linux";
    config = {
      allowUnfree = true; # CUDA is NVIDIA's
      cudaSupport = true;
      inherit cudaCapabilities;
    };
  };
in
pkgs.cudaPackages.saxpy
