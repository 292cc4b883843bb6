# modules: ec-node
# fails: services.every-channel.ec-node.broadcasts.a has no relay
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    broadcasts.a.input = "https://example.org/a.ts";
  };
}
