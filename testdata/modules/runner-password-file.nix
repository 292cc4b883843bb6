# modules: ec-runner
# fails: users.users.{root}.hashedPasswordFile
{
  pkgs,
  lib,
  testFlake,
  ...
}:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  users.users.root.hashedPassword = lib.mkForce null;
  users.users.root.hashedPasswordFile = "${pkgs.writeText "hashed-password" ""}";
}
