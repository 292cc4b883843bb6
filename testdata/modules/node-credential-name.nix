# modules: ec-node
# fails: services.every-channel.ec-node.broadcasts.a.credentials: a credential's name
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
      credentials."a:b" = "/var/lib/secrets/token";
    };
  };
}
