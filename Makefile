# `make bench` and `make test` are all that a newcomer needs; both make .venv when there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: bench test lint docs wheel clean

bench: $(VENV)/.installed
	$(BIN)/peftbench run --methods lora,adapter,prefix

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tables of methods and of roles, and the page of options; tests say when they are out of date.
docs: $(VENV)/.installed
	$(BIN)/python -m peftbench.inspection.methods_table docs/methods.md
	$(BIN)/python -m peftbench.inspection.roles_table docs/models.md
	$(BIN)/python -m peftbench.inspection.options_page docs/options.md

# Into the environment that stands beside the checkout: setuptools is pinned like everything else, so the build
# does not fetch another one.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

wheel: $(VENV)/.installed
	$(BIN)/python -m build --no-isolation --outdir dist .

clean:
	rm -rf build dist *.egg-info
