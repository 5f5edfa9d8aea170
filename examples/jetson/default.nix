# A CUDA program for Jetson boards, saxpy of nixpkgs, for Orin, and its image.
#
#   nix-build -I nixpkgs=channel:nixos-unstable -A image -o saxpy.sif
#
# On another machine than a board, that takes a builder for aarch64-linux, or binfmt.
# With capabilities of Jetsons alone, nixpkgs adds cuda_compat.
{
  nixpkgs ? <nixpkgs>,
  nix2img ? import ../.., # fetchTarball "https://github.com/nix2img/nix2img/archive/main.tar.gz" elsewhere
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
  inherit (pkgs.cudaPackages) saxpy;
  # nix2img runs on the machine that builds: the image is for the architecture of its programs.
  inherit (nix2img { pkgs = import nixpkgs { }; }) buildSif;
in
saxpy
// {
  inherit
    (buildSif {
      name = "saxpy";
      roots = [ saxpy ];
      for = [ "Orin" ];
    })
    image
    ;
}
