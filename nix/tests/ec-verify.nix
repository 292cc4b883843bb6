# A machine whose release is missing, and then unsigned, is never called verified; and
# the NAR hashes are those of Nix. That a machine is verified takes a release of it, and
# so its flake: internal/tests/boottest has that.
{ self }:
{
  name = "ec-verify";
  nodes.machine =
    { pkgs, ... }:
    let
      keys = pkgs.runCommand "keys" { nativeBuildInputs = [ pkgs.openssl ]; } ''
        mkdir $out
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key
        openssl pkey -in key -pubout -out $out/release.pub
      '';
    in
    {
      imports = [ self.nixosModules.ec-verify ];
      system.stateVersion = "26.05";
      services.every-channel.ec-verify = {
        enable = true;
        settings.release.source = [ "/srv/releases" ];
        settings.release.accept = [ "boot-v1" ];
        settings.trust.keys = [
          {
            name = "test";
            file = "${keys}/release.pub";
          }
        ];
        onCalendar = "*-*-* 04:00:00";
      };
    };
  testScript = ''
    machine.wait_for_unit("multi-user.target")
    machine.succeed("systemctl is-active ec-verify.timer")
    machine.succeed("ec-verify config check")

    def ends_with(code, word):
        machine.fail("systemctl start ec-verify.service")
        status = machine.succeed("systemctl show -P ExecMainStatus ec-verify.service")
        assert status.strip() == code, f"the unit ended with {status}, not {code}"
        said = machine.execute("ec-verify report show --brief")
        assert said[0] == int(code), f"report show ended with {said[0]}, not {code}"
        assert said[1].startswith(word), f"{said[1]!r} does not begin with {word}"

    # There is no release.
    ends_with("4", "inconclusive")

    # There is one that nobody signed.
    machine.succeed(
        "mkdir -p /srv/releases/boot-v1",
        "echo x >/srv/releases/boot-v1/release.json",
        "cd /srv/releases/boot-v1 && sha256sum release.json >SHA256SUMS.txt",
    )
    ends_with("3", "untrusted")

    # The hash of the system is the one that Nix registered.
    system = machine.succeed("readlink -f /run/current-system").strip()
    registered = machine.succeed(f"nix-store --query --hash {system}").strip()
    want = machine.succeed(f"nix-hash --type sha256 --to-sri {registered}").strip()
    got = machine.succeed(f"ec-verify hash {system} --output json")
    assert want in got, f"the hash of {system} is {got}, not {want}"
  '';
}
