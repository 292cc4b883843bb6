# The services of a boot host, as NixOS wants units described. It uses nothing
# but builtins, so that the same text can be tried on a real systemd without
# nixpkgs; hack/test-netboot does.
#
# Three services rather than one that starts the others' programs: systemd sees
# each process, restarts what dies, and tells the truth about it.
#
#   every-channel-netboot-stage  fetches, verifies, switches; ends
#   every-channel-netboot        nginx; its start writes what holds the token
#   every-channel-netboot-tftp   dnsmasq; starts and stops with it
{
  # Programs, absolute paths.
  ecVerify,
  nginx,
  dnsmasq,
  # Files: ec-verify's configuration, and those of the two servers.
  verifyConfig,
  nginxConf,
  dnsmasqConf,
  # How machines reach this host, e.g. "http://10.0.0.2".
  url,
  tag,
  # Pattern of the bundle's name.
  tarball,
  # What is served by TFTP beside the chain script: name = file.
  tftpFiles,
  chainTokenFile,
  releaseTokenFile ? null,
  # Whether dnsmasq answers DHCP as a proxy.
  proxyDhcp ? false,
  # When to look for a new release, as a calendar event; null for never.
  refresh ? null,
}:
let
  paths = import ./paths.nix;

  # One word of a command line; % begins a specifier.
  quote = word: builtins.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON word);
  words = list: builtins.concatStringsSep " " (map quote list);

  # A file's name outside of a command line.
  plain = builtins.replaceStrings [ "%" ] [ "%%" ];

  # Of what these services need of the system, nothing is left out here that one
  # of them can do without.
  hardening = import ../hardening.nix // {
    User = paths.user;
    Group = paths.user;
    UMask = "0027";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
    ];
  };

  # A boot host that gave up would have to be visited.
  untiring = {
    Restart = "always";
    RestartSec = 2;
    RestartSteps = 5;
    RestartMaxDelaySec = 30;
  };

  network = {
    wants = [ "network-online.target" ];
    after = [
      "network-online.target"
      "nss-lookup.target"
    ];
    documentation = [ "https://every.channel" ];
  };
in
{
  services = {
    every-channel-netboot-stage = network // {
      description = "Verify the release that machines boot, and put it where they find it";
      serviceConfig =
        hardening
        // {
          Type = "oneshot";
          ExecStart = words [
            ecVerify
            "--config"
            verifyConfig
            "netboot"
            "stage"
            tag
            "--dir"
            paths.www
            "--url"
            url
            "--tarball"
            tarball
          ];
          StateDirectory = paths.name;
          StateDirectoryMode = "0750";
          TimeoutStartSec = "2h";
          # No network, no space: that may pass. A release that is refused, and a
          # configuration that makes no sense, stay what they are.
          Restart = "on-failure";
          RestartPreventExitStatus = "3 64 78";
          RestartSec = 30;
          RestartSteps = 5;
          RestartMaxDelaySec = 1800;
          Nice = 10;
          IOSchedulingClass = "idle";
          # AF_UNIX: names are looked up by other daemons.
          RestrictAddressFamilies = [
            "AF_UNIX"
            "AF_INET"
            "AF_INET6"
          ];
        }
        // (
          if releaseTokenFile == null then
            { }
          else
            { LoadCredential = "${paths.releaseCredential}:${plain releaseTokenFile}"; }
        );
      unitConfig.StartLimitIntervalSec = 0;
    };

    every-channel-netboot = network // {
      description = "Serve the staged release by HTTP to machines that boot";
      wants = network.wants ++ [ "every-channel-netboot-tftp.service" ];
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig =
        hardening
        // untiring
        // {
          Type = "exec";
          ExecStartPre = [
            (
              words (
                [
                  ecVerify
                  "netboot"
                  "render"
                  "--out"
                  paths.runtime
                  "--url"
                  url
                ]
                ++ builtins.concatMap (name: [
                  "--tftp"
                  "${name}=${tftpFiles.${name}}"
                ]) (builtins.attrNames tftpFiles)
              )
              # The directory of the credentials, which only systemd knows.
              + " --chain-token-file %d/chain-token"
            )
            (words [
              nginx
              "-t"
              "-q"
              "-e"
              "stderr"
              "-c"
              nginxConf
            ])
          ];
          ExecStart = words [
            nginx
            "-e"
            "stderr"
            "-c"
            nginxConf
          ];
          # Downloads under way come to their end.
          KillSignal = "SIGQUIT";
          KillMode = "mixed";
          TimeoutStopSec = 30;
          LoadCredential = "chain-token:${plain chainTokenFile}";
          RuntimeDirectory = paths.name;
          RuntimeDirectoryMode = "0750";
          RuntimeDirectoryPreserve = "restart";
          AmbientCapabilities = "CAP_NET_BIND_SERVICE";
          CapabilityBoundingSet = "CAP_NET_BIND_SERVICE";
          # AF_UNIX: the log.
          RestrictAddressFamilies = [
            "AF_UNIX"
            "AF_INET"
            "AF_INET6"
          ];
        };
    };

    every-channel-netboot-tftp = network // {
      description = "Lead machines that boot to the staged release, by TFTP${
        if proxyDhcp then " and ProxyDHCP" else ""
      }";
      after = network.after ++ [ "every-channel-netboot.service" ];
      partOf = [ "every-channel-netboot.service" ];
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig =
        let
          # Answers to machines without an address go past the kernel's table of
          # neighbours, which is why a DHCP server may change it.
          capabilities = "CAP_NET_BIND_SERVICE" + (if proxyDhcp then " CAP_NET_ADMIN CAP_NET_RAW" else "");
        in
        hardening
        // untiring
        // {
          Type = "exec";
          ExecStart = words [
            dnsmasq
            "--conf-file=${dnsmasqConf}"
          ];
          RuntimeDirectory = paths.tftpName;
          RuntimeDirectoryMode = "0750";
          AmbientCapabilities = capabilities;
          CapabilityBoundingSet = capabilities;
          # AF_NETLINK: which addresses the card has.
          RestrictAddressFamilies = [
            "AF_UNIX"
            "AF_INET"
            "AF_INET6"
            "AF_NETLINK"
          ];
        };
    };
  };

  timers =
    if refresh == null then
      { }
    else
      {
        every-channel-netboot-stage = {
          description = "Look for a new release to boot machines from";
          timerConfig = {
            OnCalendar = refresh;
            RandomizedDelaySec = "10min";
            Persistent = true;
          };
        };
      };
}
