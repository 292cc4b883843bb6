# modules: ec-node
# fails: services.every-channel.ec-node.broadcasts.a.environmentFile must not be in the store
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    relayUrl = "https://relay.example.org/";
    broadcasts.a = {
      input = "https://example.org/a.ts";
      environmentFile = /. + "/var/lib/secrets/a";
    };
  };
}
