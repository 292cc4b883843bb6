# modules: ec-node
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    relayUrl = "https://relay.example.org/";
    hdhomerun.deviceId = "10abcdef";
    broadcasts = {
      nine-one.channel = "9.1";
      two = {
        name = "Two: 100% \"live\" $1";
        channel = "2";
        tuner = 1;
      };
      file = {
        relayUrl = "https://other.example.org/";
        input = "https://example.org/a.ts?x=1&y=%20";
        extraArgs = [ "--flag=a b" ];
        credentials.token = "/var/lib/secrets/100%.token";
        environmentFile = "/var/lib/secrets/environment";
      };
    };
  };
}
