{
  description = "A Python environment with edm, for NVIDIA GPUs";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      environment = system: import ./. { inherit nixpkgs system; };
    in
    {
      packages.x86_64-linux.default = environment "x86_64-linux";
      packages.aarch64-linux.default = environment "aarch64-linux"; # GH200
    };
}
