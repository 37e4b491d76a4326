# One entry for people and CI. `make demo` shows Spur at work, `make test` runs everything that the repository tests.
#
# The build cache lives outside the checkout (CARGO_TARGET_DIR), because aws-sdk-ec2 alone takes minutes to compile: a
# fresh clone on the same machine finds it there. Use make, or export the same CARGO_TARGET_DIR, and it is built once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export SPUR_CACHE ?= $(HOME)/.cache/spur
export CARGO_TARGET_DIR ?= $(SPUR_CACHE)/target
# Everything that make builds is found here by the demo and by the end-to-end tests.
export SPUR_BIN := $(CARGO_TARGET_DIR)/spur-bin

HOST := $(shell rustc -vV | sed -n 's/^host: //p')
# The plugin is started once per pod and verb. Linked with musl it starts in 0.2 ms instead of 0.5 on a virtual machine: glibc begins with some 40
# CPUID instructions, each of which leaves the guest. Where the toolchain has no musl, glibc does. Asked late: deps may just have installed it.
MUSL := $(HOST:-gnu=-musl)
PLUGIN_TARGET = $(if $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(MUSL)),$(MUSL),$(HOST))
# As installed: the plugin and the agent in their release profiles; what measures them is not.
BENCH_BIN := $(CARGO_TARGET_DIR)/spur-bench-bin
CARGO := cargo
MODE ?= eni
# Of each mode two, one per subnet.
NODES ?= $(if $(filter mixed,$(MODE)),4,3)
PODS ?= 12
TYPE ?= m5.large
STEPS ?= 10000000
SEED ?= 1000
# Passed as a word: to bash, SECONDS is a clock.
SECONDS ?= 60
ROUNDS ?= 120
FIRST ?= 1
# The last commit before decision 0009 changed the ruleset, and the first with a controller and nodes of both modes; both with the dependencies of today.
FROM ?= $(if $(filter eni,$(MODE)),be5d890,49baa1e)

.PHONY: help deps build plugin agent demo test unit root kube-proxy witness localstack check fmt pure ci replay fuzz soak mutants bench torture upgrade clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## Install the Debian packages that building, demo and tests need
	@scripts/install-deps

plugin: deps ## Build the CNI plugin: static, optimised, without SDK or tokio
	@RUSTFLAGS='-C target-feature=+crt-static --cfg sha1_backend="soft"' \
		$(CARGO) build --locked --quiet --profile plugin -p spur --target $(PLUGIN_TARGET)

agent: deps ## Build the agent as it is released (minutes, the first time)
	@$(CARGO) build --locked --release -p spur-ipamd

build: plugin ## Build plugin, agent, vpcsim and the demo
	@$(CARGO) build --locked --workspace --bins
	@mkdir -p $(SPUR_BIN)
	@ln -f $(CARGO_TARGET_DIR)/debug/{spur-ipamd,vpcsim,spur-demo,spur-torture,spur-upgrade,spur-faults} $(SPUR_BIN)/
	@ln -f $(CARGO_TARGET_DIR)/$(PLUGIN_TARGET)/plugin/spur $(SPUR_BIN)/

demo: build ## A VPC on this machine, real pods, real packets: MODE=eni|vpcRoute|mixed NODES=3 PODS=12 TYPE=m5.large
	@$(SPUR_BIN)/spur-demo --mode $(MODE) --nodes $(NODES) --pods $(PODS) --type $(TYPE)

bench: build agent ## Spur beside ptp + host-local and beside rules per pod: writes docs/performance.md (minutes)
	@testbed/containerd/fetch
	@mkdir -p $(BENCH_BIN)
	@ln -f $(SPUR_BIN)/{spur,vpcsim} $(CARGO_TARGET_DIR)/release/spur-ipamd $(BENCH_BIN)/
	@SPUR_BIN=$(BENCH_BIN) $(CARGO_TARGET_DIR)/debug/spur-bench --out docs

torture: build ## Kill agents, plugins and controller under churn and faults, and compare all views: MODE=eni|vpcRoute|mixed ROUNDS=120 SEED=… FIRST=1
	@$(SPUR_BIN)/spur-torture --mode $(MODE) --rounds $(ROUNDS) --first $(FIRST) $(if $(filter-out file,$(origin SEED)),--seed $(SEED))

upgrade: build ## Replace agents, plugins and controller of an earlier revision by these, and back, under live flows: MODE=eni|vpcRoute|mixed FROM=…
	@earlier=$$(scripts/build-revision $(FROM)) && $(SPUR_BIN)/spur-upgrade --mode $(MODE) --from "$$earlier" $(if $(CAPTURE),--capture $(CAPTURE))

test: unit replay root witness localstack ## Everything, root and LocalStack included
	@echo "all tests passed"

unit: build ## Tests that need no privilege
	@$(CARGO) test --locked --workspace --quiet

replay: ## Every input of the fuzz corpus once, on stable
	@cd fuzz && RUSTFLAGS="--cfg fuzzing" CARGO_TARGET_DIR=$(SPUR_CACHE)/fuzz/replay $(CARGO) test --quiet

root: build ## Tests with namespaces, packets and a real runtime; a missing privilege fails
	@testbed/containerd/fetch
	@scripts/test-root

kube-proxy: deps ## Services beside the real kube-proxy, which is built from Go modules (minutes, once): CAPTURE=1 keeps its rules for make root
	@testbed/kube-proxy/fetch
	@SPUR_KUBE_PROXY=$(if $(CAPTURE),capture,live) \
		$(CARGO) test --locked --quiet -p spur-datapath --test root_proxy --test kube_proxy -- --ignored

witness: build ## boto3 against vpcsim's EC2 API
	@vpcsim/ec2/witness/run

localstack: build ## The cloud layer against a real LocalStack
	@localstack-tests/run

fuzz: ## Fuzz all that reads bytes of others for SECONDS=60 in total; needs Rust nightly
	@fuzz/run $(SECONDS)

soak: ## The address pool against a simulated cloud with all faults, on all cores: STEPS=10000000 SEED=1000
	@SPUR_SIM_STEPS=$(STEPS) SPUR_SIM_SEED=$(SEED) $(CARGO) test --release --locked --quiet -p spur-ipamd-core --test simulation soak::soak \
		-- --exact --ignored --nocapture

mutants: ## Break pool and controller rule by rule and demand that their tests notice: MUTANTS="name …"
	@scripts/mutants

fmt: ## Format check
	@$(CARGO) fmt --all --check

pure: ## The pure crates compile alone
	@$(CARGO) check --locked --quiet -p spur-quotas
	@$(CARGO) check --locked --quiet -p spur-ipamd-core

check: fmt pure ## fmt, the pure crates alone, clippy with warnings denied
	@$(CARGO) clippy --locked --workspace --all-targets --quiet -- -D warnings

ci: deps check test ## What .ci/run does

clean: ## Remove the build cache
	@rm -rf $(CARGO_TARGET_DIR)
