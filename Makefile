# Each target does its own set-up: a bare machine needs Python 3.11 or newer and make, nothing else.
# Everything is installed into .venv, once, and again when pyproject.toml changes.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test soak lint simulate clean

BIN := .venv/bin
ARGS ?=
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
# The first interpreter that is new enough; make PYTHON=/path/to/python3.11 chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p $(IS_NEW_ENOUGH) >/dev/null 2>&1 && { echo $$p; break; }; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

help: ## Say what there is
	@echo 'make TARGET, where TARGET is one of'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '%-8s %s\n' "$$name" "$$text"; done

demo: .venv/run.stamp ## The whole thing on real text, against the emulator: make demo ARGS="--prompts 500 --json"
	@$(BIN)/gemqueue demo $(ARGS)

test: lint ## Everything that CI runs: lint, the tests, the official clients; make test ARGS="-k embedded" picks tests
	$(BIN)/python -m pytest $(ARGS)
	@test -n '$(ARGS)' || $(BIN)/python -m tests.emulator_clients  # the official clients, each in its own environment

soak: .venv/dev.stamp ## Every fault at once, and a judge: make soak SECONDS=600 SEED=1 JSON=report.json
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) $(if $(JSON),--json '$(JSON)')

lint: .venv/dev.stamp ## ruff, mypy, pyright and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

simulate: .venv/dev.stamp ## Seeds of the simulation: make simulate ARGS="--seeds 100000 --jobs 2 --json report.json"
	$(BIN)/python -m tests.simulation $(ARGS)

clean: ## Remove .venv, caches and build results
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/run.stamp: pyproject.toml
	@test -n '$(PYTHON)' && '$(PYTHON)' $(IS_NEW_ENOUGH) || { \
		echo "gemqueue needs Python 3.11 or newer, and $(or $(PYTHON),python3) is $$($(or $(PYTHON),python3) --version 2>&1)." \
			'Install one, or: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@'$(PYTHON)' -m venv --clear .venv || { echo 'No virtual environment could be made with $(PYTHON):' \
		'on Debian and Ubuntu, apt install python3-venv' >&2; rm -rf .venv; exit 1; }
	@# --group needs pip 25.1, which a new virtual environment of Python 3.11 does not have.
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@echo 'Installing gemqueue into .venv ...'
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	@echo 'Installing the tools of make test into .venv ...'
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@
