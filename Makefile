# `make` lists the targets. Everything but make, a C linker, Python 3.10+ and Rust is made here.

PYTHON ?= python3

VENV     := .venv
OLDEST   := .venv-oldest
CANARY   := .venv-canary
COVERAGE := .venv-coverage
BIN      := $(VENV)/bin
CODE     := polars_gmm tests benches examples notebooks .ci/check_wheel.py .ci/check_site.py

# What the wheel is made of; directories too, so that a deleted file counts as a change.
SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md LICENSE \
	$(shell find src polars_gmm -name __pycache__ -prune -o -print 2>/dev/null)

# What cannot run on other versions of Polars than the newest: pages show what that one prints,
# type checkers read its annotations, and only .venv has what notebooks draw with. Everything else
# also runs on the oldest.
NEWEST_ONLY := tests/test_notebooks.py tests/test_readme.py tests/test_typing.py
OTHER_TESTS := $(filter-out $(NEWEST_ONLY),$(wildcard tests/test_*.py))

PIP   := -m pip --disable-pip-version-check install --quiet
TITLE = @printf '\n== %s ==\n' "$(1)"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
.PHONY: help demo bench bench-rust bench-trust bench-groups bench-stream notebooks test lint format test-rust \
	test-oldest test-python docs coverage canary build wheel clean tools tools-lint

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(firstword $(MAKEFILE_LIST)) | \
		while read -r name words; do printf '  make %-12s %s\n' "$$name" "$$words"; done

demo: build ## build, then run examples/demo.py: Old Faithful and 10,000 points around 20 centres
	$(call TITLE,demo)
	@$(BIN)/python examples/demo.py

bench: build ## speed beside scikit-learn, into README, docs and notebooks (15 minutes; ARGS=--quick: one)
	$(call TITLE,speed)
	@$(BIN)/python benches/speed $(ARGS)
	@case '$(ARGS)' in '') $(MAKE) notebooks ;; esac

bench-rust: tools ## the mathematics alone, and the talk's M-steps in Rust: cargo bench
	$(call TITLE,the mathematics alone: cargo bench --no-default-features)
	cargo bench --locked --no-default-features --benches

notebooks: build ## run the notebooks and keep their outputs
	$(call TITLE,notebooks)
	@$(BIN)/python notebooks/run.py

bench-trust: build ## the tables of docs/trust.md: fits beside scikit-learn's best of ten (some minutes)
	$(call TITLE,trust)
	@$(BIN)/python benches/trust.py $(ARGS)

bench-groups: build ## the figures of docs/groups.md: a mixture per group beside a loop (some minutes)
	$(call TITLE,groups)
	@$(BIN)/python benches/groups.py $(ARGS)

bench-stream: build ## the table of docs/larger-than-memory.md: fits of 5 to 80 million rows (2.5 GB of disk, some minutes)
	$(call TITLE,stream)
	@$(BIN)/python benches/stream.py $(ARGS)

test: tools-lint lint test-rust build docs test-oldest test-python ## everything continuous integration runs

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
	cargo clippy --locked --no-default-features --all-targets -- -D warnings

format: tools-lint $(VENV)/.ready ## write the formats that lint checks
	cargo fmt
	$(BIN)/ruff check --quiet --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

test-rust: tools ## the mathematics alone, without Polars and Python
	$(call TITLE,the mathematics alone: cargo test --no-default-features)
	cargo test --locked --no-default-features

test-oldest: $(OLDEST)/.installed ## the same wheel and tests on the oldest supported Polars
	$(call TITLE,the same wheel on the oldest supported Polars: pytest)
	$(OLDEST)/bin/pytest --quiet $(OTHER_TESTS)

test-python: $(VENV)/.installed ## the Python tests, with the examples in README, docs and docstrings
	$(call TITLE,the tests and the examples in docstrings: pytest)
	$(BIN)/pytest --doctest-modules --pyargs polars_gmm ./tests

docs: $(VENV)/.ready ## build the documentation into site/; warnings are errors
	$(call TITLE,documentation: zensical)
	@$(BIN)/zensical build --clean --strict
	@$(BIN)/python .ci/check_site.py site

coverage: tools $(VENV)/.ready $(COVERAGE)/.ready ## what the tests reach, in Rust and in Python
	$(call TITLE,coverage of Rust and Python)
	@PYTHON='$(PYTHON)' .ci/require llvm-tools
	@.ci/coverage $(BIN)/maturin $(COVERAGE)/bin/python

canary: dist/.built $(CANARY)/.ready ## the tests on the newest Polars there is, pre-releases too
	$(call TITLE,the same wheel on pre-releases of Polars: pytest)
	@$(CANARY)/bin/python $(PIP) --pre --upgrade polars
	@$(CANARY)/bin/python $(PIP) --force-reinstall --no-deps dist/*.whl
	@$(CANARY)/bin/python -c 'import polars; print("polars", polars.__version__)'
	$(CANARY)/bin/pytest --quiet $(OTHER_TESTS)

build: $(VENV)/.installed ## build the extension and install the package into .venv

wheel: dist/.built ## build the wheel into dist/
	@ls dist/*.whl

clean: ## remove everything made here, except the compiled crates in target/ (cargo clean)
	rm -rf $(VENV) $(OLDEST) $(CANARY) $(COVERAGE) dist site examples/out .cache .hypothesis \
		.mypy_cache .pytest_cache .ruff_cache target/coverage
	find polars_gmm tests benches examples notebooks -name __pycache__ -prune -exec rm -rf {} +

# -- how they are made -------------------------------------------------------------------------

tools:
	@PYTHON='$(PYTHON)' .ci/require python linker cargo

tools-lint:
	@PYTHON='$(PYTHON)' .ci/require python linker cargo rustfmt clippy

$(VENV)/.ready: requirements/test.txt requirements/newest.txt requirements/docs.txt requirements/dev.txt | tools
	$(call TITLE,tools: $(VENV) from requirements/dev.txt)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) -r requirements/dev.txt
	@touch $@

.venv-%/.ready: requirements/test.txt requirements/newest.txt requirements/%.txt | tools
	$(call TITLE,tools: .venv-$* from requirements/$*.txt)
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python $(PIP) -r requirements/$*.txt
	@touch $@

dist/.built: $(SOURCES) $(VENV)/.ready | tools
	$(call TITLE,build: maturin (ten minutes or more the first time; seconds after a change in Python))
	@rm -f dist/*.whl
	@$(BIN)/maturin build --release --interpreter $(BIN)/python --out dist
	@$(BIN)/python .ci/check_wheel.py dist/*.whl
	@touch $@

%/.installed: dist/.built %/.ready
	@$*/bin/python $(PIP) --force-reinstall --no-deps dist/*.whl
	@touch $@
