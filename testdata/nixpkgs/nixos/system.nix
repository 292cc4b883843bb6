# The toplevel: a derivation that depends on everything that was set. An
# assertion that does not hold is an error, as in NixOS; so is a warning, since
# ours must not give any.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  units = import ./units.nix { inherit lib; } config.systemd;
  # Which of several passwords holds is not what one would think.
  passwords =
    user:
    lib.filter (p: user.${p} != null) [
      "hashedPassword"
      "hashedPasswordFile"
      "password"
    ];
  ambiguous = lib.filterAttrs (_: user: lib.length (passwords user) > 1) config.users.users;
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  label = lib.concatStringsSep "-" (config.system.nixos.tags ++ [ config.system.nixos.version ]);
  checked =
    if failed != [ ] then
      throw "\nFailed assertions:\n${lib.concatMapStrings (m: "- ${m}\n") failed}"
    else if config.warnings != [ ] then
      throw "\nWarnings:\n${lib.concatMapStrings (m: "- ${m}\n") config.warnings}"
    else
      lib.id;
in
{
  # Of NixOS' own. Those of what is enabled are read with all others, so that what
  # enables it is evaluated before any assertion is told.
  assertions = [
    {
      assertion = config.fileSystems ? "/";
      message = "The ‘fileSystems’ option does not specify your root file system.";
    }
    {
      assertion = config.boot.loader.grub.enable -> config.boot.loader.grub.devices != [ ];
      message = "You must set the option ‘boot.loader.grub.devices’ or 'boot.loader.grub.mirroredBoots' to make the system bootable.";
    }
    {
      assertion = lib.match "[0-9]{2}\\.[0-9]{2}" config.system.stateVersion != null;
      message = "${config.system.stateVersion} is an invalid value for 'system.stateVersion'";
    }
  ]
  ++ lib.optional config.services.avahi.enable {
    assertion = config.services.avahi.nssmdns4;
    message = "here, avahi is for names below .local";
  };
  warnings = map (name: "The user '${name}' has several passwords.") (lib.attrNames ambiguous);
  system.name = lib.mkOptionDefault (
    if config.networking.hostName == "" then "unnamed" else config.networking.hostName
  );
  system.nixos.version = lib.mkDefault "26.05.20260818.b18a4b9";
  system.nixos.label = lib.mkOptionDefault label;
  # nixos/modules/config/nix.nix
  nix.settings = {
    substituters = lib.mkAfter [ "https://cache.nixos.org/" ];
    trusted-public-keys = [ "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" ];
    trusted-users = [ "root" ];
  };
  system.boot.loader.kernelFile = lib.mkOptionDefault "bzImage";
  system.build = {
    # For the checks, which read them with nix eval.
    unitTexts = units;
    inherit failed;
    kernel = pkgs.writeText "linux" "";
    initialRamdisk = pkgs.writeText "initrd" (
      builtins.toJSON {
        inherit (config.boot.initrd) availableKernelModules kernelModules supportedFilesystems;
        systemd = {
          inherit (config.boot.initrd.systemd)
            emergencyAccess
            mounts
            services
            storePaths
            units
            ;
        };
        fileSystems = lib.filterAttrs (_: f: f.neededForBoot) config.fileSystems;
      }
    );
    toplevel = checked (
      pkgs.runCommand "nixos-system-${config.system.name}-${config.system.nixos.label}" {
        inherit units;
        inherit (config)
          fileSystems
          users
          networking
          nix
          time
          i18n
          ;
        inherit (config.services)
          avahi
          getty
          journald
          openssh
          timesyncd
          ;
        inherit (config.boot) kernelParams loader supportedFilesystems;
        inherit (config) security;
        inherit (config.environment) systemPackages;
        inherit (config.system)
          checks
          configurationRevision
          extraDependencies
          stateVersion
          ;
        inherit (config.system.build) initialRamdisk kernel;
        unitPackages = config.systemd.packages;
        rawUnits = config.systemd.units;
        suppressed = config.systemd.suppressedSystemUnits;
        tmpfiles = config.systemd.tmpfiles.rules;
        manager = config.systemd.settings.Manager;
        etc = lib.mapAttrs (_: e: "${e.source}") (lib.filterAttrs (_: e: e.enable) config.environment.etc);
      } ""
    );
  };
}
