{
  description = "Turns Nix closures into SIF, squashfs and OCI images for GPU clusters";

  # There is no lock file: whoever uses this flake lets its nixpkgs follow a nixpkgs of their own.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAll =
        f:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = f (import ./nix nixpkgs.legacyPackages.${system});
          }) systems
        );
    in
    {
      packages = forAll (all: {
        default = all.nix2img;
        inherit (all) nix2img static;
      });

      # nix bundle --bundler github:nix2img/nix2img#toSif nixpkgs#hello
      bundlers = forAll (all: all.bundlers);

      # nix2img.lib.x86_64-linux.buildSif { roots = [ pkgs.hello ]; }
      lib = forAll (all: all.functions);

      overlays.default = import ./nix/overlay.nix;

      checks = forAll (all: {
        inherit (all) nix2img;
      });
    };
}
