# A Python environment with edm, for NVIDIA GPUs, and its image.
#
#   nix-build -I nixpkgs=channel:nixos-unstable            # the environment
#   nix-build -I nixpkgs=... -A image -o edm.img           # the image
#
# Only code for the given GPUs is compiled, and PTX of the last one, for later GPUs.
{
  nixpkgs ? <nixpkgs>,
  nix2img ? import ../.., # fetchTarball "https://github.com/nix2img/nix2img/archive/main.tar.gz" elsewhere
  system ? "x86_64-linux",
  cudaCapabilities ? [ "8.0" "9.0" ],
  for ? [ "A100" "H100" ],
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
  env = pkgs.python3.withPackages (ps: [ ps.edm ]);
  inherit (nix2img { inherit pkgs; }) buildSif;
  sif = buildSif {
    name = "edm";
    roots = [ env ];
    entrypoint = [ "python" "-m" "edm.example" ];
    inherit for;
    gpuChecks.example = [ "python" "-m" "edm.example" ];
  };
in
env // { inherit (sif) image; }
