# The installer: boots from a stick or a disc, on UEFI and BIOS, and carries the
# system that it installs, so that it needs no network.
{
  config,
  lib,
  modulesPath,
  pkgs,
  ...
}:
{
  imports = [
    ./installer.nix
    # Not installation-cd-minimal.nix: that logs a user without a password in.
    "${modulesPath}/installer/cd-dvd/iso-image.nix"
  ];

  # Stage 1 finds the medium by its label, so that it must be nobody else's.
  isoImage = {
    volumeID = "EC_RUNNER_${lib.toUpper pkgs.stdenv.hostPlatform.uname.processor}";
    makeEfiBootable = true;
    makeUsbBootable = true;
    appendToMenuLabel = " every.channel runner installer";
  };
  image.baseName = lib.mkForce "ec-runner-${config.system.nixos.label}-${pkgs.stdenv.hostPlatform.system}";
  hardware.enableAllHardware = true;
}
