# Functions of nixpkgs with their arguments, by nix2img: change the name, keep the call.
# What has no meaning here is taken and mentioned; what cannot be done is an error that says why.
{
  lib,
  runCommand,
  writeTextFile,
  buildSif,
  buildImage,
}:
let
  ignored =
    function: args: result:
    builtins.foldl' (
      result: arg:
      if arg.value == null then
        result
      else
        builtins.trace "nix2img: ${function}: ${arg.name} has no meaning here, and is ignored" result
    ) result args;

  refuse = function: name: reason: throw "nix2img: ${function}: ${name}: ${reason}";

  asList = value: if builtins.isList value then value else [ value ];

  # What packages have in folders such as bin, as links at the root of the image,
  # and what some commands make of that.
  rootOf =
    name: packages: commands:
    runCommand "${baseNameOf name}-root" { } ''
      mkdir "$out"
      cd "$out"
      for package in ${lib.escapeShellArgs packages}; do
        for folder in "$package"/*/; do
          [ -d "$folder" ] || continue
          folder=$(basename "$folder")
          mkdir -p "$folder"
          for file in "$package/$folder"/*; do
            to=$folder/$(basename "$file")
            [ -e "$to" ] || [ -L "$to" ] || ln -s "$file" "$to"
          done
        done
      done
      ${commands}
    '';

  layered =
    function:
    {
      name,
      tag ? null,
      fromImage ? null,
      contents ? [ ],
      config ? { },
      architecture ? null,
      created ? "1970-01-01T00:00:01Z",
      mtime ? null,
      uid ? 0,
      gid ? 0,
      uname ? "root",
      gname ? "root",
      maxLayers ? 100,
      extraCommands ? "",
      fakeRootCommands ? "",
      enableFakechroot ? false,
      includeStorePaths ? true,
      includeNixDB ? false,
      layeringPipeline ? null,
      compressor ? "gz",
      debug ? null,
      passthru ? { },
      meta ? { },
    }:
    let
      no = refuse function;
      packages = asList contents;
      imageTag = if tag == null then "latest" else tag;
      # Whatever the configuration names is in the image, too.
      referenced = writeTextFile {
        name = "${baseNameOf name}-config.json";
        text = builtins.toJSON config;
      };
      wrong =
        if fromImage != null then
          no "fromImage" "an image is made of a closure alone; add what the base image has to contents"
        else if fakeRootCommands != "" || enableFakechroot then
          no "fakeRootCommands" "all files belong to root, and no command can change that"
        else if uid != 0 || gid != 0 || uname != "root" || gname != "root" then
          no "uid and gid" "all files belong to root; config.User says who runs the programs"
        else if !includeStorePaths then
          no "includeStorePaths" "an image without its store paths would not run"
        else if includeNixDB then
          no "includeNixDB" "there is no database in these images"
        else if created == "now" then
          no "created" ''"now" would make every build another image''
        else
          null;
      image = buildImage {
        format = "docker";
        name = builtins.replaceStrings [ "/" ":" ] [ "-" "-" ] name;
        roots = packages ++ [ referenced ];
        tag = "${name}:${imageTag}";
        files."/" = rootOf name packages extraCommands;
        entrypoint = config.Entrypoint or null;
        cmd = config.Cmd or null;
        env = builtins.listToAttrs (
          map (
            entry:
            let
              pair = builtins.match "([^=]*)=(.*)" entry;
            in
            {
              name = builtins.elemAt pair 0;
              value = builtins.elemAt pair 1;
            }
          ) (config.Env or [ ])
        );
        labels = config.Labels or { };
        workingDir = config.WorkingDir or null;
        user = config.User or null;
        exposedPorts = builtins.attrNames (config.ExposedPorts or { });
        compression =
          {
            gz = "gzip";
            none = "none";
          }
          .${compressor} or (no "compressor" ''docker load reads "gz" and "none"'');
        layers = maxLayers;
        arch = architecture;
        inherit created passthru meta;
      };
    in
    if wrong != null then
      wrong
    else
      ignored function [
        {
          name = "mtime";
          value = mtime;
        }
        {
          name = "layeringPipeline";
          value = layeringPipeline;
        }
        {
          name = "debug";
          value = debug;
        }
      ] (image // { inherit imageTag; imageName = name; });
in
{
  singularity-tools.buildImage =
    {
      name,
      contents ? [ ],
      diskSize ? null,
      memSize ? null,
      runScript ? null,
      runAsRoot ? null,
      singularity ? null,
      ...
    }@args:
    let
      function = "singularity-tools.buildImage";
      others = builtins.removeAttrs args [
        "name"
        "contents"
        "diskSize"
        "memSize"
        "runScript"
        "runAsRoot"
        "singularity"
      ];
      start = writeTextFile {
        name = "${name}-run-script";
        text = runScript;
        executable = true;
      };
    in
    if runAsRoot != null then
      refuse function "runAsRoot" "there is no virtual machine in which to be root; make the files in a package, and give it in contents or files"
    else
      ignored function [
        {
          name = "diskSize";
          value = diskSize;
        }
        {
          name = "memSize";
          value = memSize;
        }
        {
          name = "singularity";
          value = singularity;
        }
      ]
        (buildSif (
          {
            inherit name;
            roots = contents ++ lib.optionals (runScript != null) [ start ];
            files."/" = rootOf name contents "";
          }
          // lib.optionalAttrs (runScript != null) { entrypoint = [ "${start}" ]; }
          // others
        )).image;

  dockerTools = {
    buildLayeredImage = args: (layered "dockerTools.buildLayeredImage" args).image;
    # The result is the program itself, as there.
    streamLayeredImage =
      args:
      let
        image = layered "dockerTools.streamLayeredImage" args;
      in
      runCommand "stream-${image.name}" { passthru = { inherit (image) imageName imageTag; }; } ''
        ln -s ${image.stream}/bin/* "$out"
      '';
  };
}
