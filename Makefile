# make help lists the targets. Everything that a target needs is installed or
# built by it; only Go, and root on Debian for the test hosts, must be there.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

GO ?= go
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ec-verify
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

GOLANGCI := $(CACHE)/golangci-lint-2.15.0/golangci-lint
ACTIONLINT := $(CACHE)/actionlint-1.7.12/actionlint
GOTESTSUM := $(CACHE)/gotestsum-1.13.0/gotestsum
TESTFLAGS ?=
FUZZTIME ?= 60s

.PHONY: build
build: bin/ec-verify ## build bin/ec-verify

.PHONY: bin/ec-verify
bin/ec-verify:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X every.channel/ec-verify/cmd/ec-verify/internal/terminal.version=$(VERSION)' -o $@ ./cmd/ec-verify

.PHONY: demo
demo: setup ## show the main job on a test host (root, Debian)
	hack/demo

.PHONY: setup
setup:
	hack/setup

# Compiled as the program is, which the tests build too, so that nothing is compiled
# twice. Of vet, make lint takes care.
SUMFLAGS ?=
SUM := CGO_ENABLED=0 $(GOTESTSUM) --jsonfile .cache-test.json $(SUMFLAGS)
BUILD := -trimpath -vet=off

# The package that takes longest begins first.
.PHONY: test
test: setup $(GOTESTSUM) ## all tests, end-to-end ones included
	$(SUM) --format pkgname --packages './internal/tests/endtoend ./...' -- $(BUILD) -timeout 30m $(TESTFLAGS)
	hack/skipped .cache-test.json

.PHONY: test-quick
test-quick: ## the tests that need neither root nor a test host
	$(GO) test -short $(TESTFLAGS) ./...

.PHONY: test-race
test-race: ## the tests of -short with the race detector
	$(GO) test -short -race $(TESTFLAGS) ./...

.PHONY: test-nix-newest
test-nix-newest: setup $(GOTESTSUM) ## the tests of evaluations, rebuilds and imports once more, with the newest nix that Debian has
	EC_VERIFY_TEST_SUITE=sid $(SUM) --format testname --packages './internal/nix ./internal/rebuild ./internal/tests/endtoend' -- \
		$(BUILD) -timeout 15m -run '^(TestSandbox.*|TestLikeGetFlake|TestReadsItsOwn|TestCases|TestFetch|TestKilled|TestRebuild|TestRebuildWhere.*|TestEvaluationExplained|TestSwitchImports)$$' $(TESTFLAGS)
	hack/skipped .cache-test.json

.PHONY: test-long
test-long: setup $(GOTESTSUM) ## the tests that kill or draw at random, many times more than make test
	EC_VERIFY_TEST_TIMES=8 EC_VERIFY_MACHINE_DRAWS=10 EC_VERIFY_MACHINE_CLEAN=300 \
		$(SUM) --format testname --packages './internal/boothost/netboot ./internal/node/ledger ./internal/rebuild ./internal/tests/endtoend ./pkg/nar' -- \
		$(BUILD) -timeout 3h -count 1 -run '^(TestKilled|TestFlippedBits|TestFullDisk|TestPowerCut|TestRandomTreesLikeNix|TestSwitchKilled|TestMachineRandom|TestMachineBusy)$$' $(TESTFLAGS)
	hack/skipped .cache-test.json

.PHONY: test-interop
test-interop: ## with cosign and comin themselves, which are built once
	hack/test-interop

.PHONY: check-modules
check-modules: ## evaluate the flake and its modules; takes NIXPKGS_LIB=DIR
	hack/check-modules

.PHONY: test-arm64
test-arm64: ## the program and its unit tests on aarch64, under emulation
	hack/test-arm64

.PHONY: test-forge
test-forge: ## publish to a real Forgejo; takes FORGEJO=PROGRAM or the directory of its source
	hack/test-forge $(TESTFLAGS)

.PHONY: test-boot
test-boot: ## boot the read-only root, an installed disk and counted systems, in qemu (root, Debian)
	hack/test-boot $(TESTFLAGS)

.PHONY: test-netboot
test-netboot: ## boot machines from the network, in qemu (root, Debian)
	hack/test-netboot $(TESTFLAGS)

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME
	hack/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## measure beside nix store verify; writes docs/benchmarks.md
	$(GO) run ./hack/benchmark

.PHONY: bench-quick
bench-quick: ## say in two minutes whether a change made things worse, by hack/benchmark/ratios.json
	$(GO) run ./hack/benchmark quick

.PHONY: bench-growth
bench-growth: ## what one path, one file and one GB more cost, from 1 to 64 times as many
	$(GO) run ./hack/benchmark growth

.PHONY: bench-neighbour
bench-neighbour: ## measure what a video encoder notices; writes its part of docs/benchmarks.md
	$(GO) run ./hack/benchmark neighbour

.PHONY: lint
lint: $(GOLANGCI) $(ACTIONLINT) ## formatting, vet, staticcheck, import directions, shell, workflows
	test -z "$$(gofmt -l cmd hack internal pkg)"
	$(GOLANGCI) run ./...
	hack/lint-shell
	hack/lint-workflows $(ACTIONLINT)
	hack/vendor-hash --check

.PHONY: man
man: bin/ec-verify ## write the man pages to bin/man
	bin/ec-verify man bin/man docs/configuration.md

# Where install puts things: PREFIX is what the files name, DESTDIR what stands
# before that while a package is made.
PREFIX ?= /usr/local
DESTDIR ?=
into := $(DESTDIR)$(PREFIX)

.PHONY: install
install: bin/ec-verify man ## install the program, its units, pages and completions
	install -D -m 755 bin/ec-verify $(into)/bin/ec-verify
	install -d $(into)/lib/systemd/system $(into)/share/man/man1 $(into)/share/man/man5
	for unit in systemd/*.service systemd/*.timer; do \
	  sed -e 's|/usr/bin/ec-verify|$(PREFIX)/bin/ec-verify|' $(if $(filter /nix/store/%,$(PREFIX)),-e '\|^InaccessiblePaths=-/nix/store$$|d') $$unit | install -m 644 /dev/stdin $(into)/lib/systemd/system/$${unit##*/}; \
	done
	install -D -m 644 systemd/ec-verify.catalog $(into)/lib/systemd/catalog/ec-verify.catalog
	install -m 644 bin/man/*.1 $(into)/share/man/man1
	install -m 644 bin/man/*.5 $(into)/share/man/man5
	install -D -m 644 systemd/config.example.json $(into)/share/doc/ec-verify/config.json
	install -m 644 systemd/machine.conf systemd/firewall.conf $(into)/share/doc/ec-verify
	install -d $(into)/share/bash-completion/completions $(into)/share/zsh/site-functions $(into)/share/fish/vendor_completions.d
	bin/ec-verify completion bash >$(into)/share/bash-completion/completions/ec-verify
	bin/ec-verify completion zsh >$(into)/share/zsh/site-functions/_ec-verify
	bin/ec-verify completion fish >$(into)/share/fish/vendor_completions.d/ec-verify.fish

.PHONY: release
release: ## build a release of ec-verify into OUT, twice, and compare; KEY=FILE signs it
	hack/release $(if $(KEY),--key $(KEY)) $(or $(OUT),$(error say where to: make release OUT=DIR))

.PHONY: uninstall
uninstall: ## remove what install put there; the configuration and the state directory stay
	rm -f $(into)/bin/ec-verify $(into)/lib/systemd/catalog/ec-verify.catalog
	for unit in systemd/*.service systemd/*.timer; do rm -f $(into)/lib/systemd/system/$${unit##*/}; done
	rm -f $(into)/share/man/man1/ec-verify.1 $(into)/share/man/man1/ec-verify-*.1 $(into)/share/man/man5/ec-verify.json.5
	rm -f $(into)/share/doc/ec-verify/config.json $(into)/share/doc/ec-verify/machine.conf $(into)/share/doc/ec-verify/firewall.conf
	if [ -d $(into)/share/doc/ec-verify ]; then rmdir --ignore-fail-on-non-empty $(into)/share/doc/ec-verify; fi
	rm -f $(into)/share/bash-completion/completions/ec-verify $(into)/share/zsh/site-functions/_ec-verify $(into)/share/fish/vendor_completions.d/ec-verify.fish

.PHONY: clean
clean: ## remove what was built here (hack/testhost clean removes test hosts)
	rm -rf bin .cache-test.json

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

$(GOLANGCI):
	GOBIN=$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

$(ACTIONLINT):
	GOBIN=$(@D) $(GO) install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

$(GOTESTSUM):
	GOBIN=$(@D) $(GO) install gotest.tools/gotestsum@v1.13.0
