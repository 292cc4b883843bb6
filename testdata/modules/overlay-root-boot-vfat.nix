# modules: overlay-root
{ config, lib, ... }:
{
  services.every-channel.overlay-root.enable = true;
  assertions = [
    {
      assertion = lib.elem "umask=0077" config.fileSystems."/boot".options;
      message = "everybody can read /boot";
    }
  ];
}
