# modules: ec-runner
# fails: an account with an empty password lets everybody in: users.users.{nixos}
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  users.users.nixos = {
    isNormalUser = true;
    initialHashedPassword = "";
  };
}
