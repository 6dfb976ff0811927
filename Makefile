# Everything a developer or CI does; `make` explains itself.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev kernel run test check check-style check-types check-repo kernel-test \
	fuzz crash openapi bench bench-peers bench-scaling bench-stores bench-overload lock clean
PYTHON ?= python3
BIN := .venv/bin
SOURCES := src tests benchmarks
WORKERS ?= auto
KILLS ?= 1000
SECONDS ?= 60
SEED ?=
ARGS ?=
KERNEL_SOURCES := kernel/build.sh \
	$(wildcard kernel/*.toml kernel/*/*.toml kernel/*/src/*.rs kernel/*/src/*/*.rs)

# uv installs in seconds what takes pip minutes; where uv finds no registry, pip's own settings may
# know one. $(1) is what to install.
install = $(BIN)/uv pip install --quiet --python $(BIN)/python $(1) \
	|| $(BIN)/python -m pip install --quiet --disable-pip-version-check $(1)
compile = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --python-version 3.11

help: ## print this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## /  \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

setup: .venv/.ready ## make .venv with everything to run; leaves .venv/bin/flowtally

setup-dev: .venv/.ready-dev ## the same with everything to test

.venv/bin/uv: requirements-uv.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

.venv/.ready: .venv/bin/uv requirements.lock pyproject.toml
	$(call install,--require-hashes -r requirements.lock)
	$(call install,--no-deps --no-build-isolation --editable .)
	@touch $@

.venv/.ready-dev: .venv/.ready requirements-dev.lock
	$(call install,--require-hashes -r requirements-dev.lock)
	@touch $@

kernel: .venv/.kernel ## build the native kernel, where cargo is; `make run` and `make test` do so once

# Without cargo, or without its crates, everything works all the same: the Python twin does the work.
.venv/.kernel: .venv/.ready requirements-kernel.lock $(KERNEL_SOURCES)
	@if ! command -v cargo >/dev/null; then \
		echo "the native kernel is left out: cargo is not here; Python does its work, more slowly"; \
	else \
		echo "building the native kernel, once: about a minute"; \
		{ $(call install,--require-hashes -r requirements-kernel.lock) \
			&& MATURIN=$(CURDIR)/$(BIN)/maturin PYTHON=$(CURDIR)/$(BIN)/python sh kernel/build.sh \
			&& $(call install,--no-deps --force-reinstall kernel/target/wheels/*.whl); \
		} >kernel/build.log 2>&1 \
		|| echo "the native kernel could not be built (kernel/build.log says why); Python does its work"; \
	fi
	@touch $@

run: .venv/.kernel ## serve on 127.0.0.1:8080 with the data in ./data; ARGS are passed on
	@exec $(BIN)/flowtally serve $(ARGS)

test: .venv/.ready-dev .venv/.kernel ## run all tests, on all cores; ARGS are passed on to pytest
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxschedchunk 1 $(ARGS)

check: .venv/.ready-dev ## format, lint, types, layers, docs
	@$(MAKE) --no-print-directory --jobs --output-sync check-style check-types check-repo

check-style:
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

check-types:
	$(BIN)/mypy

# Without the other plugins and the settings of the other tests, which take longer to load than these run.
check-repo:
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/python -m pytest -q -p pytest_timeout --noconftest tests/repo

kernel-test: .venv/.ready-dev .venv/.kernel ## the kernel's own tests, and SECONDS (60) of fuzzing
	cargo test --quiet --manifest-path kernel/Cargo.toml --package flowtally-kernel-core
	$(call install,--require-hashes -r requirements-fuzz.lock)
	$(BIN)/python -m tests.kernel.fuzzing -max_total_time=$(SECONDS) build/fuzz

fuzz: kernel-test ## the same, and SECONDS of each target of cargo-fuzz, which needs nightly Rust
	kernel/fuzz/run.sh $(SECONDS)

crash: .venv/.ready-dev .venv/.kernel ## kill it KILLS times (1000), beside an oracle; SEED repeats one
	$(BIN)/python -m tests.crash.campaign --kills $(KILLS) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: .venv/.ready-dev .venv/.kernel ## measure beside the service everyone writes first; ARGS are passed on
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-peers: .venv/.peers ## measure beside what people would choose instead; ARGS are passed on
	$(BIN)/python -m benchmarks.peers.run $(ARGS)

bench-scaling: .venv/.ready-dev .venv/.kernel ## measure how the figures grow; ARGS are passed on
	$(BIN)/python -m benchmarks.scaling.run $(ARGS)

bench-stores: .venv/.peers ## measure what each store gives and costs; ARGS are passed on
	$(BIN)/python -m benchmarks.stores.run $(ARGS)

bench-overload: .venv/.ready-dev .venv/.kernel ## measure ten times its load, and a soak; ARGS are passed on
	$(BIN)/python -m benchmarks.overload.run $(ARGS)

.venv/.peers: .venv/.ready-dev .venv/.kernel requirements-peers.lock benchmarks/peers/install.sh
	$(call install,--target .venv/peers --require-hashes -r requirements-peers.lock)
	benchmarks/peers/install.sh
	@touch $@

openapi: .venv/.ready-dev ## write docs/reference/openapi.json; ARGS=--release keeps it as that of a release
	$(BIN)/python -m tests.repo.snapshot $(ARGS)

lock: .venv/bin/uv ## resolve the lock files anew; ARGS=--upgrade takes newer versions
	$(compile) $(ARGS) --extra server -o requirements.lock pyproject.toml requirements-build.in
	$(compile) $(ARGS) -c requirements.lock --group dev -o requirements-dev.lock
	$(compile) $(ARGS) -o requirements-kernel.lock requirements-kernel.in
	$(compile) $(ARGS) -o requirements-fuzz.lock requirements-fuzz.in
	$(compile) $(ARGS) -c requirements-dev.lock -o requirements-peers.lock requirements-peers.in

clean: ## remove what was built; the data stays
	rm -rf kernel/target kernel/build.log .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
