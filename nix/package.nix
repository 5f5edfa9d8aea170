# The command nix2img, with its man pages and completions.
{
  lib,
  buildGoModule,
  installShellFiles,
  stdenv,
}:
buildGoModule {
  pname = "nix2img";
  version = "0.1.0";

  src = builtins.path {
    name = "nix2img-source";
    path = ./..;
    filter =
      path: type:
      let
        name = baseNameOf path;
      in
      !(
        lib.hasPrefix "." name
        || lib.hasSuffix ".nix" name
        || lib.hasPrefix "result" name
        || lib.hasSuffix ".sif" name
      );
  };

  # The NAR hash of what "go mod vendor" writes; a test computes it anew.
  vendorHash = "sha256-ta6zpjgHEMTReTafcvKKLl4iqE7X6W2L9T528PjI1mE=";

  subPackages = [ "cmd/nix2img" ];
  ldflags = [
    "-s"
    "-w"
  ]
  # With musl (pkgsStatic) the binary needs nothing of the machine that it runs on.
  ++ lib.optionals stdenv.hostPlatform.isStatic [
    "-linkmode=external"
    "-extldflags=-static"
  ];
  env.CGO_ENABLED = 1; # for libzstd

  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    installManPage docs/man/*.1
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    installShellCompletion --cmd nix2img \
      --bash <($out/bin/nix2img completion bash) \
      --fish <($out/bin/nix2img completion fish) \
      --zsh <($out/bin/nix2img completion zsh)
  '';

  meta = {
    description = "Turns Nix closures into SIF, squashfs and OCI images for GPU clusters";
    homepage = "https://github.com/nix2img/nix2img";
    license = lib.licenses.asl20;
    mainProgram = "nix2img";
    platforms = lib.platforms.unix;
  };
}
