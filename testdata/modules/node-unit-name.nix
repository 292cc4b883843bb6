# modules: ec-node
# fails: the attribute's name becomes the unit's
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    relayUrl = "https://relay.example.org/";
    broadcasts."A b".input = "https://example.org/a.ts";
  };
}
