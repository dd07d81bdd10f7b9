PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test bench lint types check clean

help:
	@echo "make demo   install the core and run the main job: train five LeNet-5 variants, judge and report them"
	@echo "make test   install everything and run the tests"
	@echo "make bench  time training on every engine"
	@echo "make check  lint, types, tests"

$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(INSTALL) -e '.[numba,torch,tensorflow,jax,dev]'
	@touch $@

demo: $(VENV)/core
	$(BIN)/dlsys-bench gate regularization/lenet5-tanh --output reports/demo.jsonl
	$(BIN)/dlsys-bench report reports/demo.jsonl

test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

bench: $(VENV)/dev
	$(BIN)/python -m pytest --benchmark-only

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks build dist
