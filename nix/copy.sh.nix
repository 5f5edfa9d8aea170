# The text of the program that sends an image where its argument says.
{
  name,
  build, # makes a command of an output, a word of the shell
  source, # where the image comes from
  content,
  layers,
  docker, # layers, for docker load
  squashfs,
}:
''
  usage='copy-${name} DESTINATION [OPTION...]
  DESTINATION: FILE, docker://REFERENCE, oras://REFERENCE, oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE'
  to=''${1:?usage: $usage}
  shift
  layers() { nix2img build "$@" ${layers} ${content} ${source}; }
  case $to in
    docker://*) exec nix2img push ${layers} ${content} "$@" "''${to#docker://}" ${source} ;;
    oras://*)
      scratch=$(mktemp -d)
      trap 'rm -rf "$scratch"' EXIT
      nix2img build --sif -o "$scratch/image.sif" ${squashfs} ${content} ${source} &&
        nix2img push "$@" "$to" "$scratch/image.sif" ;;
    oci:*:*)
      layout=''${to#oci:}
      layers --oci "''${layout%%:*}" --tag "''${layout#*:}" "$@" ;;
    oci:*) layers --oci "''${to#oci:}" "$@" ;;
    oci-archive:*) layers --oci-archive "''${to#oci-archive:}" "$@" ;;
    docker-archive:*) nix2img build --docker-archive "''${to#docker-archive:}" "$@" ${docker} ${content} ${source} ;;
    *) ${build "\"$to\""} "$@" ;;
  esac
''
