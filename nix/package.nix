# ec-verify for nixpkgs. hack/vendor-hash keeps vendorHash equal to go.mod.
{
  lib,
  stdenv,
  buildGo126Module,
  installShellFiles,
}:

buildGo126Module {
  pname = "ec-verify";
  version = lib.fileContents ./version;
  src = import ./source.nix { inherit lib; };
  vendorHash = lib.fileContents ./vendor-hash;

  subPackages = [ "cmd/ec-verify" ];
  env.CGO_ENABLED = 0;
  # The version is that of the file, never the commit's: a runner that builds
  # this from its own copy of the source knows no commit.
  ldflags = [
    "-s"
    "-w"
    "-X every.channel/ec-verify/cmd/ec-verify/internal/terminal.version=${lib.fileContents ./version}"
  ];

  # What needs neither root nor Nix, a test host or the documents, which are no
  # part of this source. The rest is `make test`'s.
  checkPhase = ''
    runHook preCheck
    export HOME=$TMPDIR GOFLAGS=''${GOFLAGS//-trimpath/}
    go test -short -vet=off -p "$NIX_BUILD_CORES" ./pkg/... ./internal/node/config ./internal/release ./internal/trust
    runHook postCheck
  '';

  nativeBuildInputs = [ installShellFiles ];
  # The units name the place of a distribution's package.
  postInstall = ''
    for unit in systemd/*.service systemd/*.timer; do
      install -Dm444 "$unit" -t "$out/lib/systemd/system"
    done
    substituteInPlace "$out"/lib/systemd/system/*.service \
      --replace-fail /usr/bin/ec-verify "$out/bin/ec-verify"
    # The program and the certificates lie there.
    substituteInPlace "$out"/lib/systemd/system/ec-verify-fetch.service \
      --replace-fail $'InaccessiblePaths=-/nix/store\n' ""
    install -Dm444 systemd/*.catalog -t "$out/lib/systemd/catalog"
    install -Dm444 systemd/config.example.json "$out/share/doc/ec-verify/config.json"
    install -m444 systemd/machine.conf systemd/firewall.conf "$out/share/doc/ec-verify"
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    installShellCompletion --cmd ec-verify \
      --bash <("$out/bin/ec-verify" completion bash) \
      --fish <("$out/bin/ec-verify" completion fish) \
      --zsh <("$out/bin/ec-verify" completion zsh)
    "$out/bin/ec-verify" man pages docs/configuration.md
    installManPage pages/*
  '';

  meta = {
    description = "Prove that a NixOS machine is, byte for byte, the release that it claims to be";
    license = lib.licenses.asl20;
    mainProgram = "ec-verify";
    platforms = lib.platforms.linux;
  };
}
