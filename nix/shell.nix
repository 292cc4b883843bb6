# What working on this repository takes, apart from root and Debian for the test
# hosts.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.go_1_26
    pkgs.golangci-lint
    pkgs.nixfmt
    pkgs.shellcheck
    pkgs.jq
    pkgs.openssl
    # promtool
    pkgs.prometheus.cli
  ];
}
