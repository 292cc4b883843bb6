# modules: ec-node
# fails: set exactly one of services.every-channel.ec-node.hdhomerun.host and
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    relayUrl = "https://relay.example.org/";
    broadcasts.a.channel = "9.1";
  };
}
