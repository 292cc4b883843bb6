# modules: ec-verify
# A boot is good if the system is verified. Without the option nothing asks for it.
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
    settings.machine.parts = [ "units" ];
    settings.report.dir = "/srv/reports";
    settings.trust.keys = [
      {
        name = "ci";
        file = "/etc/ec-verify/ci.pub";
      }
    ];
    bootCheck.enable = true;
  };
  assertions = [
    {
      assertion =
        config.systemd.services.ec-verify-boot.requiredBy == [ "boot-complete.target" ]
        && lib.all (name: config.systemd.services.${name}.requiredBy == [ ]) [
          "ec-verify"
          "ec-verify-rebuild"
        ];
      message = "boot-complete.target does not require ec-verify-boot.service, or others";
    }
    {
      assertion =
        let
          bounds = config.systemd.services.ec-verify-boot.serviceConfig;
        in
        bounds.ReadWritePaths == [ "/srv/reports" ] && !(bounds ? CapabilityBoundingSet);
      message = "ec-verify-boot.service may do more or less than it needs";
    }
  ];
}
