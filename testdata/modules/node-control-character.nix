# modules: ec-node
# fails: broadcasts.a.name' is not of type
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
      name = "a\nExecStartPre=/bin/true";
      input = "https://example.org/a.ts";
    };
  };
}
