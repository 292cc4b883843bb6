# modules: ec-runner
# fails: services.every-channel.runner.authorizedKeys."[definition 1-entry 1]"' is not of type
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
    authorizedKeys = [ "/root/.ssh/id_ed25519.pub" ];
  };
}
