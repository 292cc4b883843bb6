# modules: ec-node
# fails: systemd takes no path with a space, a control character
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
      environmentFile = "/var/lib/secrets/a\nExecStartPre=/bin/true";
    };
  };
}
