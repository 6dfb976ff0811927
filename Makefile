# Everything a developer or CI does; `make` explains itself.
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test check crash bench lock clean
PYTHON ?= python3
BIN := .venv/bin
KILLS ?= 1000
ARGS ?=

help: ## print this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## /  \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

setup: .venv/.ready ## make .venv with everything to run; leaves .venv/bin/flowtally

setup-dev: .venv/.ready-dev ## the same with everything to test

.venv/bin/uv: requirements-uv.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

.venv/.ready: .venv/bin/uv requirements.lock pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.ready-dev: .venv/.ready requirements-dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@touch $@

run: .venv/.ready ## serve on 127.0.0.1:8080 with the data in ./data; ARGS are passed on
	@exec $(BIN)/flowtally serve $(ARGS)

test: .venv/.ready-dev ## run all tests
	$(BIN)/python -m pytest $(ARGS)

check: .venv/.ready-dev ## format, lint, types, layers, docs
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/repo

crash: .venv/.ready-dev ## kill the service KILLS times (1000) under load and compare with an oracle
	KILLS=$(KILLS) $(BIN)/python -m tests.crash.campaign

bench: .venv/.ready-dev ## measure beside the service everyone writes first
	$(BIN)/python -m benchmarks.run $(ARGS)

lock: .venv/bin/uv ## resolve the lock files anew
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.11 -o requirements.lock pyproject.toml requirements-build.in
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.11 -c requirements.lock -o requirements-dev.lock --group dev

clean: ## remove what was built; the data stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
