# A Python environment with edm, for NVIDIA GPUs.
#
#   nix-build -I nixpkgs=channel:nixos-unstable
#
# Only code for the given GPUs is compiled, and PTX of the last one, for later GPUs.
{
  nixpkgs ? <nixpkgs>,
  system ? "x86_64-linux",
  cudaCapabilities ? [ "8.0" "9.0" ], # A100, H100
}:
let
  pkgs = import nixpkgs {
    inherit system;
    config = {
      allowUnfree = true; # CUDA is NVIDIA's
      cudaSupport = true;
      cudaForwardCompat = true;
      inherit cudaCapabilities;
    };
    overlays = [
      (final: prev: {
        pythonPackagesExtensions = prev.pythonPackagesExtensions ++ [
          (python-final: python-prev: { edm = python-final.callPackage ./edm.nix { }; })
        ];
      })
    ];
  };
in
pkgs.python3.withPackages (ps: [ ps.edm ])
