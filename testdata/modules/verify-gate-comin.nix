# modules: ec-verify
# comin waits to be confirmed, and nobody but root reaches where that is done.
{
  config,
  ec-verify,
  lib,
  ...
}:
{
  # As the module of comin 0.13 declares them.
  options.services.comin = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = false;
    };
    deployConfirmer.mode = lib.mkOption {
      type = lib.types.enum [
        "manual"
        "auto"
        "without"
      ];
      default = "without";
    };
  };
  config = {
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
      gate.comin.enable = true;
    };
    services.comin.enable = true;
    systemd.services.comin.serviceConfig = {
      ExecStart = "${lib.getExe ec-verify} run";
      Restart = "always";
    };
    assertions = [
      {
        assertion =
          config.services.comin.deployConfirmer.mode == "manual"
          && config.systemd.services.ec-verify-gate-comin.wantedBy == [ "multi-user.target" ]
          &&
            lib.last config.systemd.services.ec-verify-gate.serviceConfig.ExecStart
            == "${lib.getExe ec-verify} gate close --comin";
        message = "comin is not confirmed, or can't set its profile";
      }
      {
        assertion =
          lib.hasInfix "chmod 0700 /var/lib/private" config.systemd.services.comin.preStart
          && lib.hasInfix "ln -sT private/comin /var/lib/comin" config.systemd.services.comin.preStart;
        message = "everybody reaches comin's socket";
      }
    ];
  };
}
