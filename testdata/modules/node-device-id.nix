# modules: ec-node
# fails: hdhomerun.deviceId' is not of type
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    relayUrl = "https://relay.example.org/";
    hdhomerun.deviceId = "10ABCDEFG";
    broadcasts.a.channel = "9.1";
  };
}
