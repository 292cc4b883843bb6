# modules: ec-verify
# The profile is closed at each boot, and the garbage collector goes on removing old
# generations.
{
  config,
  ec-verify,
  lib,
  ...
}:
{
  services.every-channel.ec-verify = {
    enable = true;
    package = ec-verify;
    settings.release.source = [ "/srv/releases" ];
    settings.release.accept = [ "boot-v2026.02.28" ];
    settings.trust.keys = [
      {
        name = "ci";
        file = "/etc/ec-verify/ci.pub";
      }
    ];
    gate.enable = true;
  };
  nix.gc = {
    automatic = true;
    options = "--delete-older-than 30d";
  };
  assertions = [
    {
      assertion =
        config.systemd.services.ec-verify-gate.wantedBy == [ "multi-user.target" ]
        && !(config.systemd.services.ec-verify-gate.serviceConfig ? ExecStart)
        && config.systemd.services.ec-verify-gate-comin.wantedBy == [ ];
      message = "the gate is not closed, or comin is confirmed";
    }
    {
      assertion =
        lib.hasInfix "remount,bind,rw /nix/var/nix/profiles" config.systemd.services.nix-gc.script
        && lib.hasSuffix "--delete-older-than 30d\n" config.systemd.services.nix-gc.script;
      message = "nix-gc.service does not see the profiles writable";
    }
  ];
}
