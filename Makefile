# The front door of podswitch. `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# System packages, by their names on Debian 12, Debian 13 and Ubuntu 24.04, and what needs each.
PACKAGES :=
PACKAGES += clang              # compiles the XDP program (fastpath/build.rs)
PACKAGES += libbpf-dev         # bpf_helpers.h for the XDP program, and linux/bpf.h through linux-libc-dev
PACKAGES += gcc                # Rust links with it; xsk-rs compiles the vendored libxdp
PACKAGES += llvm               # xsk-rs (the second AF_XDP implementation, in benches): llvm-strip
PACKAGES += m4 pkg-config      # xsk-rs: configure step of libxdp
PACKAGES += libelf-dev         # xsk-rs: libxdp reads ELF
PACKAGES += zlib1g-dev         # xsk-rs: libelf's compressed sections
PACKAGES += iproute2           # demo, tests: network namespaces, veth, bridge, vxlan, tc
PACKAGES += iputils-ping       # demo, tests: ping
PACKAGES += iperf3             # demo, tests: TCP and UDP streams
PACKAGES += ethtool            # tests: checksum offloads of the kernel's end
PACKAGES += nftables           # masquerading for pods, and its tests
PACKAGES += python3            # demo
PACKAGES += containerd runc     # tests: a real container runtime that plugs pods in
PACKAGES += podman              # tests: plugs containers in by CNI, up to version 4
PACKAGES += busybox-static     # tests: the image of those pods
PACKAGES += python3-grpcio python3-grpc-tools # tests: talk to the runtime over CRI
PACKAGES += python3-scapy      # tests: an encoder that shares no code with ours
PACKAGES += containernetworking-plugins  # tests: the reference CNI plugins, beside ours and under it (host-local)
PACKAGES += valgrind           # bench-guard: callgrind counts instructions
PACKAGES += iptables           # tests: what the reference portmap plugin uses
PACKAGES += tshark             # tests: a decoder that shares no code with ours

# The peers that `make bench-e2e` measures, beside the kernel. Debian has no package of VPP.
BENCH_PACKAGES :=
BENCH_PACKAGES += dpdk-dev            # dpdk-testpmd
BENCH_PACKAGES += librte-meta-net     # its driver net_af_xdp
BENCH_PACKAGES += openvswitch-switch  # its userspace datapath with afxdp ports

PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 20
PACKETS ?= 1000000
ROUNDS ?= 50
PODS ?= 100
ROUTES ?= 1000 10000 100000
SECONDS_EACH ?= 5
KEEP ?= 0
ONLY ?=
BENCH_OPTIONS ?=
# What bench-e2e is started with: UNDER="chrt -f 3" keeps everything else off the CPUs of a throughput turn.
UNDER ?=

##@ What a newcomer needs
.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## install the system packages that are missing
	@scripts/setup $(PACKAGES)

.PHONY: build
build: ## build the release binaries, target/release/podswitch and podswitch-cni
	cargo build --release --locked -p podswitch -p podswitch-cni

.PHONY: demo
demo: setup build ## two nodes, real packets; KEEP=1 leaves them up
	@KEEP=$(KEEP) demo/run

.PHONY: test
test: setup ## every test, end-to-end ones included (as root)
	@scripts/test

##@ What a developer needs
.PHONY: check
check: ## formatting, lints, documentation: no warning is let through
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTFLAGS="--cfg loom" cargo clippy --locked --target-dir $${CARGO_TARGET_DIR:-target}/loom -p switch --test loom -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	@scripts/check-scripts

.PHONY: bench
bench: setup ## the pipeline's cost in clocks and nanoseconds a packet, beside VPP's; BENCH_QUICK=1 is short
	cargo bench --locked -p podswitch-benches --bench tables
	cargo bench --locked -p podswitch-benches --bench scale
	cargo bench --locked -p podswitch-benches --bench pipeline

.PHONY: bench-cni
bench-cni: setup build ## ADD and DEL of the CNI plugin beside the reference bridge plugin's; ROUNDS (50), PODS (100)
	/usr/bin/python3 benches/cni.py $${CARGO_TARGET_DIR:-target}/release $(ROUNDS) $(PODS)

.PHONY: bench-routes
bench-routes: setup build ## route changes a second at the control socket, among ROUTES (1000 10000 100000) routes (as root)
	/usr/bin/python3 benches/routes.py $${CARGO_TARGET_DIR:-target}/release $(ROUTES)

.PHONY: bench-rates
bench-rates: setup build ## how exactly rate limits shape; SECONDS_EACH (5) a stream (as root)
	cargo build --locked -p podswitch-tests --bin rates
	target=$$(realpath "$${CARGO_TARGET_DIR:-target}") && PODSWITCH_BIN=$$target/release/podswitch \
	  $$target/debug/rates $(SECONDS_EACH)

.PHONY: bench-e2e
bench-e2e: setup ## podswitch beside other switches on real interfaces; ONLY=throughput|latency|stream|idle|memory (as root)
	@scripts/setup $(BENCH_PACKAGES)
	cargo build --release --locked -p podswitch -p podswitch-bench-e2e
	target=$$(realpath "$${CARGO_TARGET_DIR:-target}") && PODSWITCH_BIN=$$target/release/podswitch \
	  $(UNDER) $$target/release/podswitch-bench-e2e --out $$target/bench-e2e $(addprefix --only ,$(ONLY)) $(BENCH_OPTIONS)

# Settings of [switch], each beside the defaults and the kernel.
SETTINGS := nice=-20 spin=20 spin=100 busy_poll=20 ring=256 ring=512 ring=4096,frames=16384

.PHONY: bench-settings
bench-settings: ## what each setting of [switch] does to throughput, latency and TCP (as root)
	$(MAKE) bench-e2e ONLY=throughput,latency,stream \
	  BENCH_OPTIONS="--routes bridged --sizes 64 --switch kernel $(addprefix --variant ,$(SETTINGS)) $(BENCH_OPTIONS)"

.PHONY: bench-quick
bench-quick: setup ## the pipeline's cost in two minutes, less exact
	BENCH_QUICK=1 cargo bench --locked -p podswitch-benches --bench pipeline

.PHONY: bench-guard
bench-guard: setup ## instructions a packet against benches/budget.txt; fails when a path needs 5 % more
	cargo bench --locked -p podswitch-benches --bench guard

.PHONY: bench-costs
bench-costs: setup ## which part of its way needs how many of a packet's instructions: the table in docs/performance.md
	cargo bench --locked -p podswitch-benches --bench guard -- --costs

.PHONY: bench-checks
bench-checks: setup ## what each check costs, in instructions and clocks a packet: the table in docs/performance.md
	cargo bench --locked -p podswitch-benches --bench checks

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZ_SECONDS (20)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz

.PHONY: loom
loom: ## the lock-free tables under every interleaving of a few threads
	RUSTFLAGS="--cfg loom" cargo test --locked --release --target-dir $${CARGO_TARGET_DIR:-target}/loom -p switch --test loom

.PHONY: oracle
oracle: setup ## compare PACKETS (1000000) random packets with the Python model, byte for byte
	cargo build --release --locked -p podswitch-tests --bin replay
	tests/oracle/run.py $${CARGO_TARGET_DIR:-target}/release/replay --packets $(PACKETS)

.PHONY: clean-host
clean-host: ## remove what killed demos and tests left on this machine
	@scripts/clean-host

##@ What an operator needs
.PHONY: install
install: build ## binaries, systemd unit and example configuration under PREFIX (/usr/local)
	install -D -m 0755 $${CARGO_TARGET_DIR:-target}/release/podswitch $(DESTDIR)$(PREFIX)/sbin/podswitch
	install -D -m 0755 $${CARGO_TARGET_DIR:-target}/release/podswitch-cni $(DESTDIR)$(PREFIX)/sbin/podswitch-cni
	install -D -m 0644 docs/podswitch.example.toml $(DESTDIR)$(PREFIX)/share/doc/podswitch/podswitch.example.toml
	install -d -m 0755 $(DESTDIR)/etc/systemd/system
	sed 's|@PREFIX@|$(PREFIX)|g' deploy/podswitch.service > $(DESTDIR)/etc/systemd/system/podswitch.service
	chmod 0644 $(DESTDIR)/etc/systemd/system/podswitch.service
	@echo "installed. Next: write /etc/podswitch/podswitch.toml (the example is in $(PREFIX)/share/doc/podswitch),"
	@echo "then: systemctl daemon-reload && systemctl enable --now podswitch"
	@echo "and for container runtimes: podswitch cni install"
