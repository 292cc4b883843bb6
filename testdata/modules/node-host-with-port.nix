# modules: ec-node
# fails: hdhomerun.host' is not of type
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    relayUrl = "https://relay.example.org/";
    hdhomerun.host = "192.0.2.10:5004";
    broadcasts.a.channel = "9.1";
  };
}
