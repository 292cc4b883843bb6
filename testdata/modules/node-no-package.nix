# modules: ec-node
# fails: services.every-channel.ec-node.package' was accessed but has no value defined
{
  services.every-channel.ec-node = {
    enable = true;
    relayUrl = "https://relay.example.org/";
    broadcasts.a.input = "https://example.org/a.ts";
  };
}
