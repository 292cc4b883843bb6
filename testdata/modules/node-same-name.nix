# modules: ec-node
# fails: have the same name at the same relay
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
