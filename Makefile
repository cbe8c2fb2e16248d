# Every target sets up what it needs; `make demo` and `make check` are all that a newcomer has to know.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
HELM := v3.22.0

.DEFAULT_GOAL := help
.PHONY: help setup demo check check-all packages helm image coverage format lint types test double-eleven bench bench-size bench-compare soak docs docs-serve lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# uv takes a sixth of pip's time. An index or a proxy that only pip is configured with
# is unknown to it; pip does all then.
UV_INSTALL := ! $(BIN)/python -m pip config list | grep -qE 'index|proxy' \
  && awk '/^[^ ]/ {found = /^uv==/} found' requirements.lock > $(VENV)/uv.lock \
  && $(PIP) --require-hashes -r $(VENV)/uv.lock \
  && $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock

setup: $(STAMP) ## make .venv with the command stocktide in it

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stocktide needs Python 3.11 or later")'
	@echo "setting up $(VENV) (up to a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@{ $(UV_INSTALL); } || { echo "installing with pip"; $(PIP) --require-hashes -r requirements.lock; }
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## a small shop with a flash sale and a live board, on embedded servers
	@$(BIN)/stocktide demo

double-eleven: setup ## one day of a shop, checked against numbers that were worked out by hand
	@$(BIN)/python examples/double-eleven

# The programs that check the types of the JavaScript client, where there is npm.
TOOLS := clients/js/node_modules/.package-lock.json
$(TOOLS): clients/js/package-lock.json
	@command -v npm >/dev/null || exit 0; npm ci --silent --no-audit --no-fund --prefix clients/js && touch $@ || true

check: setup $(TOOLS) ## format, lint, types, docs, all tests: what CI runs
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.check

check-all: setup $(TOOLS) ## the same, and fail where a program that some tests need is missing
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.check --all

packages: ## install the Debian packages that some tests need (as root)
	@apt-get -qq update && apt-get -qq install --yes --no-install-recommends \
	  $(if $(shell command -v chromium),,chromium) redis-server faketime openssl prometheus systemd $(if $(shell command -v npm),,nodejs npm)

helm: setup ## install the Helm that tests the chart, where there is Go
	@GOBIN=$(CURDIR)/$(BIN) go install helm.sh/helm/v3/cmd/helm@$(HELM)

image: ## build the image stocktide:VERSION, where there is Docker
	@docker build --file deploy/docker/Dockerfile --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --tag stocktide:$(VERSION) .

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

soak: setup $(TOOLS) ## long fault runs and slow tests, an hour and more
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.soak

docs: setup ## make the site of docs/ in build/docs; a warning, a dead link or a dead anchor is an error
	@$(BIN)/python -m docs.site

docs-serve: docs ## the same, then serve it until Ctrl-C
	@echo "http://127.0.0.1:8001/" && $(BIN)/python -m http.server 8001 --bind 127.0.0.1 --directory build/docs

lock: setup ## lock the dependencies again, with hashes
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --all-extras \
	  --python-version 3.11 -o requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --extra otel \
	  --constraints requirements.lock --python-version 3.11 -o deploy/docker/requirements.lock pyproject.toml

clean: ## remove what the targets made
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
