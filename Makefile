# The two commands: `make run` and `make test`. The longer ones: `make bench` and `make prove`, each with ONLY=name,name.
.DEFAULT_GOAL := help
.PHONY: help run test tests bench prove soak lint lint-code deny prerequisites

# Cargo's own progress is the progress bar.
CARGO ?= cargo
ONLY ?=

help:
	@echo "make run     build weir, start it with the example, send it real webhooks, keep serving"
	@echo "make test    everything that CI checks"
	@echo "make bench   measure, and write target/bench.json   (ONLY=name,name for a part)"
	@echo "make prove   inject faults and count, and write target/prove.json   (ONLY=T1,T6 for a part)"
	@echo "make soak    a million seeds of the simulation      (SEEDS=n, SEED=n for one in full)"

prerequisites:
	@sh xtask/prerequisites.sh

# Everything is built with the features of the whole workspace: a part built by itself would compile its libraries anew.
# The same holds for `broken`, the deliberately broken variants that tests must catch; what people run is without.
TESTED = --profile tested --workspace --features cli/broken

run: prerequisites
	$(CARGO) build --release --workspace --bin weir --bin xtask
	@target/release/xtask run

test: prerequisites
	@sh xtask/prerequisites.sh test
	$(CARGO) build $(TESTED) --all-targets
	$(MAKE) lint-code
	# cargo-deny has to be built first, and the tests leave time for it
	$(MAKE) -j2 deny tests

tests:
	# more at once than cores: most of the time they wait for servers
	RUST_TEST_THREADS=4 $(CARGO) test $(TESTED)
	$(CARGO) test --quiet --manifest-path sdk/rust/Cargo.toml --target-dir target/sdk

lint: lint-code deny

lint-code:
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(TESTED) --all-targets -- -D warnings
	@test -x target/tested/xtask || $(CARGO) build $(TESTED) --bin xtask
	@target/tested/xtask tidy

deny:
	@sh xtask/deny.sh

bench: prerequisites
	$(CARGO) build --release --workspace --bin weir --bin benches
	@target/release/benches $(ONLY)

prove: prerequisites
	@sh xtask/prerequisites.sh test
	$(CARGO) build --release --workspace --all-targets
	@target/release/xtask prove "$(ONLY)"

soak: prerequisites
	$(CARGO) build --release --workspace --bin sim
	@ONLY="$(ONLY)" SEEDS="$(SEEDS)" SEED="$(SEED)" target/release/sim
