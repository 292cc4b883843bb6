# A runner on an SD card, for boards that u-boot starts.
{
  config,
  lib,
  modulesPath,
  ...
}:
{
  imports = [
    ./image.nix
    "${modulesPath}/installer/sd-card/sd-image-aarch64.nix"
  ];

  # That module is for installing and repairing whatever there is, and has kernel
  # modules from outside of the kernel.
  boot.supportedFilesystems.zfs = false;

  # nixpkgs' own ext4 has a random hash seed: two builds of one system differ.
  sdImage.rootFilesystemCreator = ./ext4.nix;
  image.baseName = lib.mkForce "ec-runner-${config.system.nixos.label}-aarch64-linux";
}
