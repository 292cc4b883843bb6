# A publisher that ends is started again, and has no rights that it does not need.
{ self }:
{
  name = "ec-node";
  nodes.machine =
    { pkgs, ... }:
    {
      imports = [ self.nixosModules.ec-node ];
      system.stateVersion = "26.05";
      services.every-channel.ec-node = {
        enable = true;
        relayUrl = "https://relay.example.org/";
        # Encodes a test pattern where the publisher would encode its input.
        package = pkgs.writeShellApplication {
          name = "ec-node";
          runtimeInputs = [ pkgs.ffmpeg-headless ];
          text = ''
            exec ffmpeg -nostdin -loglevel warning -re -f lavfi -i testsrc2 \
              -t 5 -c:v libx264 -preset ultrafast -f mpegts -y out.ts
          '';
        };
        broadcasts.pattern.input = "https://example.org/in.ts";
      };
    };
  testScript = ''
    machine.wait_for_unit("ec-node-pattern.service")
    machine.wait_until_succeeds("test -s /run/ec-node/ec-node-pattern/out.ts", timeout=60)
    machine.wait_until_succeeds(
        "test $(systemctl show -P NRestarts ec-node-pattern) -ge 1", timeout=60
    )
    machine.succeed("systemd-analyze security --threshold=25 ec-node-pattern")
  '';
}
