# modules: ec-runner
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
    authorizedKeys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLE operator" ];
    substituters = { };
  };
}
