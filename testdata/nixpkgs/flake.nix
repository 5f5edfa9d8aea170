{
  description = "A stand-in for nixpkgs";
  outputs = { self }: {
    legacyPackages.x86_64-linux = import ./. { system = "x86_64-linux"; };
    legacyPackages.aarch64-linux = import ./. { system = "aarch64-linux"; };
    packages.x86_64-linux.hello = self.legacyPackages.x86_64-linux.hello;
  };
}
