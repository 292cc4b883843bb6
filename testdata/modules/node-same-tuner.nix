# modules: ec-node
# fails: services.every-channel.ec-node.broadcasts.a.tuner and services.every-channel.ec-node.broadcasts.b.tuner: one tuner
{ pkgs, ... }:
{
  services.every-channel.ec-node = {
    enable = true;
    package = pkgs.writeShellApplication {
      name = "ec-node";
      text = "";
    };
    relayUrl = "https://relay.example.org/";
    hdhomerun.host = "192.0.2.10";
    broadcasts = {
      a = {
        channel = "9.1";
        tuner = 1;
      };
      b = {
        channel = "9.2";
        tuner = 1;
      };
      c = {
        channel = "9.3";
        tuner = 0;
      };
    };
  };
}
