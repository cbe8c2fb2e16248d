# Every target sets up what it needs; `make demo` and `make check` are all that a newcomer has to know.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo check format lint types test bench bench-size bench-compare soak lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stocktide needs Python 3.11 or later")'
	@echo "setting up $(VENV) (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	@$(BIN)/stocktide demo

check: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.check

format: setup
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: setup
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: setup
	@$(BIN)/mypy

test: setup
	@$(BIN)/pytest

bench: setup
	@$(BIN)/python -m bench

bench-size: setup
	@$(BIN)/python -m bench.size

bench-compare: setup
	@$(BIN)/python -m bench.compare

soak: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.soak

lock: setup
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --all-extras \
	  --python-version 3.11 -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
