# The only entry point. `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CARGO_TARGET_DIR ?= $(CURDIR)/target
export PORTCULLIS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/portcullis
ENVOY_VERSION := 1.40.0
export ENVOY_VERSION
export PORTCULLIS_ENVOY ?= $(PORTCULLIS_CACHE)/envoy/$(ENVOY_VERSION)/envoy

MUSL := x86_64-unknown-linux-musl
STEP := @printf '\033[1m==> %s\033[0m\n'
# One profile and one target for what is shipped and for what is tested, so that the heavy crates compile once.
CARGO_RELEASE := --release --target $(MUSL)

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: prepare-up envoy build-up ## build, start Envoy with the controller on manifests/examples/quickstart, print curl lines
	@tests/make/up.sh

.PHONY: down
down: ## stop what `make up` started
	@tests/make/down.sh

.PHONY: prepare-up prepare
prepare-up:
	@tests/make/prepare.sh up
prepare:
	@tests/make/prepare.sh test

.PHONY: envoy
envoy: $(PORTCULLIS_ENVOY)
$(PORTCULLIS_ENVOY):
	@tests/make/envoy.sh

.PHONY: cluster
cluster: prepare ## build the Kubernetes of the tests into the cache, and Envoy Gateway, once: ten minutes
	@tests/cluster/build.sh
	@tests/cluster/envoy-gateway.sh

.PHONY: build build-up wasm controller faults
build: prepare build-up ## leave dist/portcullis.wasm and dist/portcullis (static)
build-up: wasm controller
wasm:
	$(STEP) "dist/portcullis.wasm"
	@tests/make/wasm.sh dist/portcullis.wasm
faults:
	$(STEP) "dist/faults/portcullis.wasm (breaks on demand, for the fail-closed tests)"
	@tests/make/wasm.sh dist/faults/portcullis.wasm --features faults
controller:
	$(STEP) "dist/portcullis"
	@cargo build $(CARGO_RELEASE) -p portcullis
	@mkdir -p dist && cp -f $(CARGO_TARGET_DIR)/$(MUSL)/release/portcullis dist/.portcullis && mv -f dist/.portcullis dist/portcullis

# The end-to-end tests are built beside the controller, so that the heavy crates have the same features there.
E2E := -p portcullis -p portcullis-e2e --features portcullis-e2e/grpc --lib $(patsubst tests/tests/%.rs,--test %,$(wildcard tests/tests/*.rs))

.PHONY: test test-unit test-wasm32 test-e2e
test: prepare envoy cluster build faults test-unit test-wasm32 test-e2e ## every test: unit, cases in three places, real Envoy, Docker and Kubernetes
test-unit:
	$(STEP) "unit tests, cases and goldens"
	@cargo test $(CARGO_RELEASE) --workspace --exclude portcullis-e2e
test-wasm32:
	$(STEP) "the engine's cases in wasm32"
	@tests/make/wasm32.sh
test-e2e:
	$(STEP) "end to end"
	@cargo test $(CARGO_RELEASE) $(E2E) -- --test-threads 1

.PHONY: check
check: prepare envoy build ## formatting, lints, each crate alone, size, imports, drift, a fuzz smoke
	$(STEP) "format and lints"
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --exclude portcullis-filter -- -D warnings
	@cargo clippy -p portcullis-filter --target wasm32-wasip1 -- -D warnings
	@cargo clippy -p portcullis-filter --target wasm32-wasip1 --features faults -- -D warnings
	$(STEP) "each crate alone"
	@tests/make/check-crates.sh
	$(STEP) "the module's size and imports"
	@tests/make/check-wasm.sh dist/portcullis.wasm
	$(STEP) "custom resource definitions"
	@tests/make/check-crds.sh
	$(STEP) "30 s of fuzzing a target"
	@tests/make/fuzz.sh 30

.PHONY: crds
crds: ## write manifests/crds from the Rust types
	@tests/make/check-crds.sh --write

.PHONY: fuzz
fuzz: ## fuzz each target for FUZZ_SECONDS (default 300)
	@tests/make/fuzz.sh $${FUZZ_SECONDS:-300}

.PHONY: wycheproof
wycheproof: ## verify Wycheproof's JOSE vectors of the folder DIR
	@WYCHEPROOF=$$(realpath "$(or $(DIR),$(error name the folder with the vectors: make wycheproof DIR=PATH))") \
		cargo test -q $(CARGO_RELEASE) -p portcullis-engine --test wycheproof -- --ignored --nocapture

.PHONY: mutants
mutants: ## count which one-line changes of the deciding crates the tests notice; MUTANTS_SAMPLE=120 for a sample
	@tests/make/mutants.sh $${MUTANTS_SHARD:-}

.PHONY: bench
bench: prepare envoy build ## what a decision costs beside Envoy's own filters, and the controller with 1,000 routes; BENCH=quick for a glance
	@cargo build -q $(CARGO_RELEASE) -p portcullis -p portcullis-e2e --bin bench
	@$(CARGO_TARGET_DIR)/$(MUSL)/release/bench

.PHONY: conformance
conformance: prepare envoy cluster build ## the conformance suite of Gateway API on a cluster of its own, into docs/conformance.yaml; CONFORMANCE=NAME,NAME for some tests
	@cargo build -q $(CARGO_RELEASE) -p portcullis -p portcullis-e2e --features portcullis-e2e/grpc --bin conformance
	@$(CARGO_TARGET_DIR)/$(MUSL)/release/conformance

.PHONY: bench-scale
bench-scale: prepare envoy cluster build ## the controller with 1,000 routes and policies of a real API server; kept in docs/performance.md
	@cargo build -q $(CARGO_RELEASE) -p portcullis -p portcullis-e2e --bin bench
	@BENCH_PART=cluster $(CARGO_TARGET_DIR)/$(MUSL)/release/bench

.PHONY: image
image: build ## the image of the controller and of the filter, FROM scratch
	@tests/make/image.sh
