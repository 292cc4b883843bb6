# modules: ec-verify
# fails: services.comin.deployConfirmer.mode is not "manual"
{ ec-verify, lib, ... }:
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
      gate.comin.enable = true;
    };
    services.comin.enable = true;
    services.comin.deployConfirmer.mode = lib.mkForce "auto";
  };
}
