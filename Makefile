# What can be done here: make help.
# Everything is installed into a virtual environment in this directory, .venv, in the versions of constraints.txt.

PYTHON ?= $(or $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done), \
	$(error pybpf needs Python 3.11 or newer: name one with make PYTHON=...))
VENV := .venv
BIN := $(VENV)/bin
PYBPF := $(BIN)/pybpf

# pip reads the first for what is installed and, until version 25.3, for what builds it; the second since then.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.runtime ## a compiled filter over real packets, then an unsafe one that is refused
	@$(MAKE) --no-print-directory --silent show-run show-refusal

show-run:
	@echo
	@echo "A stateful firewall, compiled from C: verified, compiled to native code, run 1000 times over a capture."
	@echo '$$ pybpf run examples/objects/v3/stateful_firewall.o --pcap examples/captures/http.pcap --repeat 1000 --maps'
	@echo
	@$(PYBPF) run examples/objects/v3/stateful_firewall.o --pcap examples/captures/http.pcap --repeat 1000 --maps

# The exit status must be 1: rejected.
show-refusal:
	@echo
	@echo "Another filter, whose length test is one byte short."
	@echo '$$ pybpf verify examples/objects/v3/unsafe/off_by_one.o'
	@echo
	@$(PYBPF) verify examples/objects/v3/unsafe/off_by_one.o; test $$? -eq 1

test: check ## all checks and all tests
	$(BIN)/python -m pytest --numprocesses=auto

coverage: $(VENV)/.development ## all tests, and which lines and branches they reach
	$(BIN)/python -m pytest --numprocesses=auto --cov --cov-report=term:skip-covered

check: $(VENV)/.development ## style, types and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

quick: $(VENV)/.development ## the tests that take less than a quarter of a second each
	$(BIN)/python -m pytest -q -m "not slow"

proofs: $(VENV)/.development ## prove the number domain anew, all of it: some minutes
	PYBPF_PROOFS=all $(BIN)/python -m pytest -q -m proof tests/verifier

mutation: $(VENV)/.development ## break the verifier place by place and list what no test notices: some hours, may be stopped and goes on
	$(BIN)/python -m mutation --jobs 2

format: $(VENV)/.development ## bring the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

objects: ## compile the examples anew; needs clang-22
	$(MAKE) -C examples

bench: $(VENV)/.development ## compare pybpf with C compilers, the kernel and DPDK; writes docs/performance.md
	$(call install,--editable '.[bench]')
	$(BIN)/python -m benchmarks --write

reference: $(VENV)/.development ## write the pages of docs/reference anew that are made from the code
	$(BIN)/python docs/reference/generate.py
	$(BIN)/python docs/reference/generate_api.py

dist: $(VENV)/.development ## build the wheel into dist/
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

clean: ## remove the environment and everything that can be made again
	rm -rf $(VENV) dist .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .mutation
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,--editable .)

$(VENV)/.development: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,--editable '.[dev]')

# Debian has two packages without which an environment has no pip; python3-pip will do in the place of python3-venv.
$(BIN)/python:
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
		rm -rf $(VENV) && $(PYTHON) -m pip --version >/dev/null 2>&1 && $(PYTHON) -m venv --without-pip $(VENV); \
	} || { \
		rm -rf $(VENV); \
		echo "make: $(PYTHON) cannot make a virtual environment: on Debian and Ubuntu, install python3-venv" >&2; \
		exit 1; \
	}

define install
	@echo "installing into $(VENV) ..."
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then pip="$(BIN)/python -m pip"; \
	else pip="$(PYTHON) -m pip --python $(BIN)/python"; fi; $$pip install --quiet $(1)
	@touch $@
endef

.PHONY: bench coverage help proofs mutation demo show-run show-refusal test check quick format objects reference dist clean
