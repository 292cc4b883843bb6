# What all six systems have in common. The first lines are for a publisher to
# fill in: who may log in, whom to believe, where releases come from.
{ config, ... }:
let
  # SSH keys of the operators.
  authorizedKeys = [ ];
  # Who signs releases: [ { name = "ci-2026"; file = ./ci-2026.pub; } ]
  keys = [ ];
  # [ "https://forge.example.org/every-channel/runner/releases/download" ]
  source = [ ];
in
{
  services.every-channel = {
    runner = {
      enable = true;
      inherit authorizedKeys;
    };
    ec-verify = {
      # Without anybody to believe there is nothing to verify against.
      enable = keys != [ ] && source != [ ];
      settings = {
        trust.keys = keys;
        release = {
          inherit source;
          accept = [ "latest" ];
        };
      };
    };
  };

  # By hand it can be used all the same.
  environment.systemPackages = [ config.services.every-channel.ec-verify.package ];
}
