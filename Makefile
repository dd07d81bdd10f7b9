PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Tests of one framework run in one worker, so that each framework is imported and compiled once.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup
# Further arguments for pytest, as in `make test ARGS="--slow-share 10"`.
ARGS ?=

.PHONY: help demo test test-numpy test-slow bench docs lint types check clean

help:
	@echo "make demo        install the core and reports; train five LeNet-5 variants, judge and report them"
	@echo "make test        install everything and run the fast tests"
	@echo "make test-numpy  install the core elsewhere and run the fast tests that need no framework"
	@echo "make test-slow   run the slow tests, which take more than an hour"
	@echo "make docs        build the documentation into build/html, without warnings"
	@echo "make bench       time training on every engine"
	@echo "make check       lint, check types, run the fast tests"

$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[report]'
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(INSTALL) -e '.[all,dev]'
	@touch $@

demo: $(VENV)/core
	$(BIN)/dlsys-bench gate regularization/lenet5-tanh --output reports/demo.jsonl
	$(BIN)/dlsys-bench report reports/demo.jsonl

test: $(VENV)/dev
	$(PYTEST) $(ARGS)

test-numpy: VENV = .venv-numpy
test-numpy:
	$(MAKE) VENV=$(VENV) $(VENV)/core
	$(INSTALL) -e '.[parts,test]'
	$(PYTEST) $(ARGS)

test-slow: $(VENV)/dev
	$(PYTEST) --slow -m slow $(ARGS)

bench: $(VENV)/dev
	$(BIN)/python -m pytest --benchmark-only

$(VENV)/docs: $(VENV)/core
	$(INSTALL) -e '.[docs]'
	@touch $@

# The pages of checks and of the API are generated first, and any warning is an error.
docs: $(VENV)/docs
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -d build/doctrees -b html . build/html

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) .venv-numpy .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks build dist
