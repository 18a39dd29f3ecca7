# Everything a developer runs. Needs make and Python 3.11 or newer; all else comes into .venv by itself.

SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(RUN)/python -m pytest

# The newest Python that can make environments; choose another with: make PYTHON=/path/to/python3.12 setup
FINDABLE := python3.14 python3.13 python3.12 python3.11 python3
IS_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in $(FINDABLE); do $$name -c '$(IS_ENOUGH)' 2>/dev/null && echo $$name && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test check format bench chaos lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Install Ferryman and its tools into .venv, at the versions of the lock file

demo: $(READY) ## See real jobs run, retry, die and get cancelled on real servers; takes a minute
	$(RUN)/ferryman demo

dev: $(READY) ## The same stack, but it stays up: prints its address, a token and a first request
	$(RUN)/ferryman dev

test: $(READY) ## Run every test that needs no cluster
	$(PYTEST) tests/unit tests/integration $(wildcard tests/operator tests/chart)
	$(PYTEST) tests/chaos

check: $(READY) ## Check format, lint, types, who may import whom, and the unit tests
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy service/ferryman tests/support $(wildcard operator/ferryman_operator)
	$(RUN)/lint-imports --no-logo
	$(PYTEST) tests/unit -q

format: $(READY) ## Put the sources into the format that check wants
	$(RUN)/ruff check --fix-only .
	$(RUN)/ruff format .

bench: $(READY) ## Measure the pipeline and print the figures
	$(RUN)/python -m tests.benchmarks

chaos: $(READY) ## Break it on purpose, at length: kills processes and servers under load, then does the books
	$(PYTEST) tests/chaos -s --chaos-seconds 900

lock: $(READY) ## Choose the newest allowed versions of all dependencies and write them down with their hashes
	$(LOCK) pyproject.toml --extra embedded --extra operator --output-file requirements.lock
	$(LOCK) pyproject.toml --extra dev --extra bench --constraints requirements.lock --output-file requirements-dev.lock

clean: ## Remove the environment, caches and builds, but no data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find service operator tests -name __pycache__ -prune -exec rm -rf {} +

LOCK := $(RUN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock"

$(READY): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Ferryman needs Python 3.11 or newer with venv and pip (on Debian and Ubuntu:" \
		"apt install python3-venv). Name it with: make PYTHON=/path/to/python3 setup"; exit 1; }
	@$(PYTHON) -c '$(IS_ENOUGH)' || { echo "$(PYTHON) is too old or lacks venv: Ferryman needs Python 3.11 or newer"; exit 1; }
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), which takes a minute the first time"
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
