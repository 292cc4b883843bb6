# Where a boot host keeps what.
rec {
  name = "every-channel-netboot";
  user = name;
  tftpName = "${name}-tftp";
  # Persistent: the cache and memory of releases, and what is served.
  state = "/var/lib/${name}";
  verifyState = "${state}/releases";
  www = "${state}/www";
  # Made anew at each start, with the token in it.
  runtime = "/run/${name}";
  tftpRoot = "${runtime}/tftp";
  pidFile = "/run/${tftpName}/dnsmasq.pid";
  # Of every-channel-netboot-stage; systemd.exec(5), LoadCredential=.
  releaseCredential = "release-token";
  releaseTokenFile = "/run/credentials/${name}-stage.service/${releaseCredential}";
}
