# A runner as it boots: nobody gets in without a key, and it carries its source.
{ self }:
{
  name = "runner";
  nodes.machine =
    { lib, ... }:
    {
      imports = [ self.nixosModules.default ];
      services.every-channel.runner = {
        enable = true;
        flake = self;
      };
      # The test framework gives root an empty one.
      users.users.root.hashedPasswordFile = lib.mkForce null;
    };
  testScript = ''
    machine.wait_for_unit("multi-user.target")
    machine.succeed("test -f /etc/every-channel/flake/flake.nix")
    machine.fail("touch /etc/every-channel/flake/x")
    machine.succeed("passwd --status root | grep -q '^root L'")
    machine.succeed("sshd -T | grep -qx 'passwordauthentication no'")
    # No unit failed.
    machine.succeed("test -z \"$(systemctl --failed --no-legend --plain)\"")
  '';
}
