# hack/install-runner with what it uses, as a command for the images.
# nixos-install is the image's own.
{
  writeShellApplication,
  coreutils,
  dosfstools,
  e2fsprogs,
  ec-verify,
  findutils,
  gawk,
  gnused,
  jq,
  nix,
  util-linux,
}:
writeShellApplication {
  name = "install-runner";
  runtimeInputs = [
    coreutils
    dosfstools
    e2fsprogs
    ec-verify
    findutils
    gawk
    gnused
    jq
    nix
    util-linux
  ];
  text = ''
    export EC_DISK_LAYOUT=''${EC_DISK_LAYOUT:-${../modules/overlay-root/disk-layout.json}}
    exec ${../hack/install-runner} "$@"
  '';
}
