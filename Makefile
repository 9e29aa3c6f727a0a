# Python 3.11 or newer and make are all it takes: every target makes .venv by itself when it is
# missing, and again when the lock has changed. ARGS hands further arguments on:
# make test ARGS="-k stitch"

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
LOCKING := --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help setup demo run test test-all check format bench soak faults mutants pictures lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name about; \
		do printf '  make %-8s %s\n' "$$name" "$$about"; done

setup: $(READY)  ## make .venv with everything in it

$(READY): pyproject.toml requirements/build.txt requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gapless needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) -V 2>&1`." \
		"Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) (about half a minute)" >&2
	@rm -f $(READY)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements/build.txt
	@$(PIP) install --require-hashes --no-build-isolation -r requirements/dev.txt
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $(READY)

demo: $(READY)  ## a tour in a minute, without network
	@$(BIN)/gapless demo $(ARGS)

run: $(READY)  ## a hub with the default settings
	@$(BIN)/gapless serve $(ARGS)

test: $(READY)  ## the tests, in a few minutes: a share of what takes long by nature
	@HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -n 2 --dist worksteal \
		-m "not slow and not soak and not faults" $(ARGS)

test-all: $(READY)  ## all tests but those of soak and faults
	@HYPOTHESIS_PROFILE=full $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: $(READY)  ## format, lint, types, layers
	@$(BIN)/ruff format --check --quiet . || { echo "to format: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(READY)  ## format the code, and mend what can be mended
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

bench: $(READY)  ## what an answer costs, beside Redis (see bench/README.md)
	@$(BIN)/python bench/run.py $(ARGS)

soak: $(READY)  ## the long tests, and the property tests with many more examples
	@HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -m "soak or property" --timeout 0 $(ARGS)

faults: $(READY)  ## the tests that kill, damage and starve real processes
	@$(BIN)/python -m pytest -m faults --timeout 0 $(ARGS)

mutants: $(READY)  ## put faults into the sources, and see that a test catches each
	@$(BIN)/python scripts/mutants.py $(ARGS)

pictures: $(READY)  ## make the pictures of the shell in docs/pictures anew
	@PYTHONPATH=tests $(BIN)/python scripts/make_pictures.py

lock:  ## resolve the dependencies anew (needs uv)
	@uv pip compile $(LOCKING) pyproject.toml requirements/dev.in -o requirements/dev.txt
	@uv pip compile $(LOCKING) requirements/build.in -c requirements/dev.txt \
		-o requirements/build.txt

clean:  ## remove .venv and everything else that was made
	@rm -rf $(VENV) build dist bench/out .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
