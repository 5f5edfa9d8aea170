{
  description = "A Python environment with edm, for NVIDIA GPUs, and its image";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.nix2img.url = "github:nix2img/nix2img";
  inputs.nix2img.inputs.nixpkgs.follows = "nixpkgs";

  outputs =
    { self, nixpkgs, nix2img }:
    let
      edm = system: import ./. { inherit nixpkgs system; nix2img = import nix2img; };
    in
    {
      packages.x86_64-linux.edm = edm "x86_64-linux";
      packages.aarch64-linux.edm = edm "aarch64-linux"; # GH200
    };
}
