# The systemd service of one broadcast, as NixOS wants units described. It uses
# nothing but builtins, so that the same text can be tried on a real systemd
# without nixpkgs.
{
  # The publisher's program, an absolute path.
  program,
  # The name that the broadcast is published under.
  name,
  relayUrl,
  # What is published: a URL that the publisher reads.
  input,
  extraArgs ? [ ],
  # Credentials: name = file.
  credentials ? { },
  # A file with VARIABLE=value lines, or null.
  environmentFile ? null,
}:
let
  # % introduces what systemd puts in.
  plain = builtins.replaceStrings [ "%" ] [ "%%" ];
  # One word: systemd reads C escapes inside double quotes, which JSON's are among.
  word = text: plain (builtins.toJSON text);
  # One word of a command line, where $ introduces a variable.
  quote = text: builtins.replaceStrings [ "$" ] [ "$$" ] (word text);
  words = list: builtins.concatStringsSep " " (map quote list);
  # An empty list would be a definition too, and a key without a value.
  unlessEmpty = key: list: if list == [ ] then { } else { ${key} = list; };
  # A file on the machine. Interpolated, a path of Nix would be copied into the
  # store, for everybody to read.
  file = path: plain (toString path);
in
{
  # In quotes, so that a backslash at its end does not join the next line to it.
  description = "Publish the broadcast \"${plain name}\"";
  documentation = [ "https://every.channel" ];
  wants = [ "network-online.target" ];
  after = [
    "network-online.target"
    "nss-lookup.target"
  ];
  # A broadcast is never given up: the relay or the tuner may be away for days.
  unitConfig.StartLimitIntervalSec = 0;

  serviceConfig = {
    Type = "exec";
    ExecStart = words (
      [
        program
        "wt-publish"
        "--url"
        relayUrl
        "--name"
        name
        "--input"
        input
      ]
      ++ extraArgs
    );
    # An input that ends is no success: a broadcast has no end.
    Restart = "always";
    RestartSec = 2;
    # From 2 s to a minute in 6 steps, so that what is away is not hammered.
    RestartSteps = 6;
    RestartMaxDelaySec = 60;
    TimeoutStopSec = 15;
    KillMode = "mixed";

    # Viewers come before everything else on the machine. What verifies it runs
    # in system.slice with the least weight there is.
    Slice = "ecnode.slice";
    Nice = -5;
    OOMScoreAdjust = -500;

    SyslogIdentifier = "ec-node";
    LogExtraFields = word "EC_BROADCAST=${name}";
    # A decoder that complains of each picture must not fill the journal.
    LogRateLimitIntervalSec = 30;
    LogRateLimitBurst = 2000;

    DynamicUser = true;
    RuntimeDirectory = "ec-node/%p";
    WorkingDirectory = "%t/ec-node/%p";
    UMask = "0077";

    # It reads the network and writes the network. x264 on the CPU is what every
    # runner can do: whoever encodes with a GPU takes PrivateDevices back, and says
    # so in his own configuration.
    PrivateUsers = true;
    # AF_UNIX: name resolution and the journal; AF_NETLINK: which addresses the
    # machine has, which QUIC wants to know.
    RestrictAddressFamilies = [
      "AF_UNIX"
      "AF_INET"
      "AF_INET6"
      "AF_NETLINK"
    ];
    # @resources stays: encoders set the affinity and the priority of their
    # threads.
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
    ];
  }
  // unlessEmpty "LoadCredential" (
    map (key: "${key}:${file credentials.${key}}") (builtins.attrNames credentials)
  )
  // (if environmentFile == null then { } else { EnvironmentFile = file environmentFile; })
  // import ../hardening.nix;
}
