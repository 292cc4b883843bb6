# modules: ec-node
# fails: services.every-channel.ec-node.broadcasts.a.name and services.every-channel.ec-node.broadcasts.b.name: the same name
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    relayUrl = "https://relay.example.org/";
    broadcasts.a.input = "https://example.org/a.ts";
    broadcasts.b = {
      name = "a";
      input = "https://example.org/b.ts";
    };
  };
}
