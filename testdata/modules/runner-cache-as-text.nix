# modules: ec-runner
# fails: nix.extraOptions: extra-substituters = https://cache.example.org: caches
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  nix.extraOptions = ''
    keep-going = true
      extra-substituters = https://cache.example.org
  '';
}
