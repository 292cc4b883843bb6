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
  edition = lib.optionalString (config.isoImage.edition != "") "-${config.isoImage.edition}";
  inherit (pkgs.stdenv) hostPlatform;
in
{
  imports = [ ../../image/file-options.nix ];
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
      default = pkgs.jq;
    };
    makeBiosBootable = mkOption {
      type = types.bool;
      default = hostPlatform.isx86;
      defaultText = "whether it is x86";
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
      default = "nixos${edition}-26.05-${hostPlatform.uname.processor}";
      defaultText = "of the edition, the release and the processor";
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
    boot.kernelParams = lib.optionals (!config.boot.initrd.systemd.enable) [
      "boot.shell_on_fail"
      "root=LABEL=${config.isoImage.volumeID}"
    ];
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
        device = "${lib.optionalString config.boot.initrd.systemd.enable "/sysroot"}/iso/nix-store.squashfs";
        fsType = "squashfs";
        options = [
          "loop"
          "threads=multi"
        ];
        neededForBoot = true;
      };
      "/nix/.rw-store" = media {
        fsType = "tmpfs";
        options = [ "mode=0755" ];
        neededForBoot = true;
      };
      "/nix/store" = media {
        overlay = {
          lowerdir = [ "/nix/.ro-store" ];
          upperdir = "/nix/.rw-store/store";
          workdir = "/nix/.rw-store/work";
        };
      };
    };
    image.extension = "iso";
    image.filePath = "iso/${config.image.fileName}";
    image.baseName = "nixos${edition}-${config.system.nixos.label}-${hostPlatform.system}";
    system.build.isoImage = pkgs.runCommand config.image.fileName {
      inherit (config.system.build) toplevel;
      inherit (config) isoImage;
    } "";
  };
}
