# As nixpkgs': the medium is found by its label, the store is a squashfs on it,
# and stage 1 gives a shell to whoever stands before the machine.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  media = lib.mkImageMediaOverride;
in
{
  options.isoImage = {
    appendToMenuLabel = mkOption {
      type = types.str;
      default = " Installer";
    };
    edition = mkOption {
      type = types.str;
      default = "";
    };
    grubTheme = mkOption {
      type = types.nullOr (types.either types.path types.package);
      default = null;
    };
    makeBiosBootable = mkOption {
      type = types.bool;
      default = pkgs.stdenv.hostPlatform.isx86;
    };
    makeEfiBootable = mkOption {
      type = types.bool;
      default = false;
    };
    makeUsbBootable = mkOption {
      type = types.bool;
      default = false;
    };
    squashfsCompression = mkOption {
      type = types.nullOr types.str;
      default = "zstd -Xcompression-level 19";
    };
    volumeID = mkOption {
      type = types.str;
      default = "nixos-26.05-${pkgs.stdenv.hostPlatform.uname.processor}";
    };
  };
  config = {
    assertions = [
      {
        assertion = lib.stringLength config.isoImage.volumeID <= 32;
        message = "isoImage.volumeID is longer than 32 characters.";
      }
    ];
    boot.initrd.systemd.emergencyAccess = true;
    boot.loader.grub.enable = media false;
    boot.loader.timeout = 10;
    fileSystems = {
      "/" = media {
        fsType = "tmpfs";
        options = [ "mode=0755" ];
      };
      "/iso" = media {
        device = "/dev/disk/by-label/${config.isoImage.volumeID}";
        fsType = "iso9660";
        neededForBoot = true;
        noCheck = true;
      };
      "/nix/.ro-store" = media {
        device = "/iso/nix-store.squashfs";
        fsType = "squashfs";
        neededForBoot = true;
      };
      "/nix/.rw-store" = media {
        fsType = "tmpfs";
        options = [ "mode=0755" ];
        neededForBoot = true;
      };
      "/nix/store" = media {
        fsType = "overlay";
        device = "overlay";
        neededForBoot = true;
      };
    };
    image.baseName = "nixos-${config.system.nixos.label}-${pkgs.stdenv.hostPlatform.system}";
    system.build.isoImage = pkgs.runCommand "${config.image.baseName}.iso" {
      inherit (config.system.build) toplevel;
      inherit (config) isoImage;
    } "";
  };
}
