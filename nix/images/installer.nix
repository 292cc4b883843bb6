# An image that a machine is installed or recovered with: it has install-runner,
# and the system for the disk, so that it needs no network but for the release,
# where that is not at hand either.
{
  config,
  installed,
  pkgs,
  ...
}:
{
  imports = [ ./image.nix ];

  environment.etc."every-channel/system".source = installed;
  environment.systemPackages = [
    (pkgs.callPackage ../install-runner.nix {
      ec-verify = config.services.every-channel.ec-verify.package;
    })
  ];
}
