# make demo   the whole job on this machine: curate, encode, train, serve, a film (FILMS=dir for your own)
# make test   ruff, mypy, import-linter, pytest (make test-all: the slow tests too)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= out/demo
FILMS ?=
PYTEST_ARGS ?=

.PHONY: setup demo test test-all lint format docs clean

setup: $(STAMP)

# The stamp is newer than both files exactly when what they ask for is installed.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FilmWeaver needs Python 3.11 or newer: make setup PYTHON=/path/to/python3.11")'
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: setup
	$(BIN)/filmweaver demo --out $(OUT) $(if $(FILMS),--films $(FILMS))

test: setup lint
	$(BIN)/python -m pytest -m "not slow and not postgres and not gpu" $(PYTEST_ARGS)

test-all: setup lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	$(BIN)/python -m cluster.config_docs
	$(BIN)/python -m serve.http.openapi

clean:
	rm -rf out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
