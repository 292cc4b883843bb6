# modules: ec-node
# fails: broadcasts.a.tuner is of no use without
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
      tuner = 1;
    };
  };
}
