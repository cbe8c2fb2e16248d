# Every target sets up what it needs; `make demo` and `make check` are all that a newcomer has to know.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo check check-all packages coverage format lint types test double-eleven bench bench-size bench-compare soak lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the command stocktide in it

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stocktide needs Python 3.11 or later")'
	@echo "setting up $(VENV) (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## a small shop with a flash sale and a live board, on embedded servers
	@$(BIN)/stocktide demo

double-eleven: setup ## one day of a shop, checked against numbers that were worked out by hand
	@$(BIN)/python examples/double-eleven

check: setup ## format, lint, types, all tests: what CI runs
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.check

check-all: setup ## the same, and fail where Chromium, Redis, faketime or Node is missing
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.check --all

packages: ## install the packages that some tests need (as root)
	@apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium redis-server faketime nodejs npm
	@npm ci --silent --prefix clients/js

coverage: setup ## line and branch coverage of the tests that need no whole system, with a floor
	@$(BIN)/pytest --cov --cov-report=term tests/unit tests/ledger tests/protocol

format: setup ## format, and fix what lint can fix
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: setup ## check format and lint
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/python -m tests.lua_lint

types: setup ## check types
	@$(BIN)/mypy && $(BIN)/mypy examples/double-eleven

test: setup ## run the tests, one after the other
	@$(BIN)/pytest

bench: setup ## measure the budgets as ratios
	@$(BIN)/python -m bench

bench-size: setup ## measure a shop of a million SKUs
	@$(BIN)/python -m bench.size

bench-compare: setup ## measure the usual ways of reserving stock beside Stocktide
	@$(BIN)/python -m bench.compare

soak: setup ## long fault runs and slow tests, an hour and more
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.soak

lock: setup ## lock the dependencies again, with hashes
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --all-extras \
	  --python-version 3.11 -o requirements.lock pyproject.toml

clean: ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
