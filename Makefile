# `make` lists the targets. Everything but make, a C linker, Python 3.10+ and Rust is made here.

PYTHON ?= python3

VENV   := .venv
OLDEST := .venv-oldest
BIN    := $(VENV)/bin
CODE   := polars_gmm tests examples

# What the wheel is made of; directories too, so that a deleted file counts as a change.
SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md LICENSE \
	$(shell find src polars_gmm -name __pycache__ -prune -o -print 2>/dev/null)

# The tests that also run on the oldest supported Polars.
OLDEST_TESTS := tests/test_contracts.py tests/test_scoring.py tests/test_dtypes.py

PIP   := -m pip --disable-pip-version-check install --quiet
TITLE = @printf '\n== %s ==\n' "$(1)"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
.PHONY: help demo test lint format test-rust test-oldest test-python build wheel clean tools tools-lint

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(firstword $(MAKEFILE_LIST)) | \
		while read -r name words; do printf '  make %-12s %s\n' "$$name" "$$words"; done

demo: build ## build, then run examples/demo.py: Old Faithful and 10,000 points around 20 centres
	$(call TITLE,demo)
	@$(BIN)/python examples/demo.py

test: tools-lint lint test-rust build test-oldest test-python ## everything continuous integration runs

lint: tools-lint $(VENV)/.ready ## formats, warnings and types, of Rust and Python
	$(call TITLE,formats: cargo fmt and ruff)
	cargo fmt --check
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(call TITLE,types: mypy and pyright)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(call TITLE,warnings: cargo clippy)
	cargo clippy --locked --all-targets -- -D warnings

format: tools-lint $(VENV)/.ready ## write the formats that lint checks
	cargo fmt
	$(BIN)/ruff check --quiet --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

test-rust: tools ## the mathematics alone, without Polars and Python
	$(call TITLE,the mathematics alone: cargo test --no-default-features)
	cargo test --locked --no-default-features

test-oldest: $(OLDEST)/.installed ## the contract tests on the oldest supported Polars
	$(call TITLE,the same wheel on the oldest supported Polars: pytest)
	$(OLDEST)/bin/pytest --quiet $(OLDEST_TESTS)

test-python: $(VENV)/.installed ## the Python tests, with the examples in README, docs and docstrings
	$(call TITLE,the tests and the examples in docstrings: pytest)
	$(BIN)/pytest --doctest-modules --pyargs polars_gmm ./tests

build: $(VENV)/.installed ## build the extension and install the package into .venv

wheel: dist/.built ## build the wheel into dist/
	@ls dist/*.whl

clean: ## remove everything made here, except the compiled crates in target/ (cargo clean)
	rm -rf $(VENV) $(OLDEST) dist examples/out .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find polars_gmm tests examples -name __pycache__ -prune -exec rm -rf {} +

# -- how they are made -------------------------------------------------------------------------

tools:
	@PYTHON='$(PYTHON)' .ci/require python linker cargo

tools-lint:
	@PYTHON='$(PYTHON)' .ci/require python linker cargo rustfmt clippy

$(VENV)/.ready: requirements/test.txt requirements/dev.txt | tools
	$(call TITLE,tools: $(VENV) from requirements/dev.txt)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) -r requirements/dev.txt
	@touch $@

$(OLDEST)/.ready: requirements/test.txt requirements/oldest.txt | tools
	$(call TITLE,tools: $(OLDEST) from requirements/oldest.txt)
	@$(PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python $(PIP) -r requirements/oldest.txt
	@touch $@

dist/.built: $(SOURCES) $(VENV)/.ready | tools
	$(call TITLE,build: maturin (ten minutes or more the first time; seconds after a change in Python))
	@rm -f dist/*.whl
	@$(BIN)/maturin build --release --interpreter $(BIN)/python --out dist
	@touch $@

%/.installed: dist/.built %/.ready
	@$*/bin/python $(PIP) --force-reinstall --no-deps dist/*.whl
	@touch $@
