# An image that a machine is installed or recovered with: it carries the system
# for the disk, so that it needs no network.
{ installed, ... }:
{
  imports = [ ./image.nix ];

  environment.etc."every-channel/system".source = installed;
}
