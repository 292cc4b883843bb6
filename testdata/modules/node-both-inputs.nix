# modules: ec-node
# fails: set exactly one of services.every-channel.ec-node.broadcasts.a.channel and
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    relayUrl = "https://relay.example.org/";
    hdhomerun.host = "192.0.2.10";
    broadcasts.a = {
      channel = "9.1";
      input = "https://example.org/a.ts";
    };
  };
}
