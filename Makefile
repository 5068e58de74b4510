# Each target does its own set-up: a bare machine needs Python 3.11 or newer and make, nothing else.
# Everything is installed into .venv, once, and again when pyproject.toml changes.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo check test proofs matrix format soak lint simulate installs release clean \
	style contracts types strict pure tests-first tests-second tests-chosen clients

BIN := .venv/bin
ARGS ?=
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
# The first interpreter that is new enough; make PYTHON=/path/to/python3.11 chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p $(IS_NEW_ENOUGH) >/dev/null 2>&1 && { echo $$p; break; }; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# The tests start hundreds of processes, and each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## Say what there is
	@echo 'make TARGET, where TARGET is one of'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '%-10s %s\n' "$$name" "$$text"; done

demo: .venv/run.stamp ## The whole thing on real text, against the emulator: make demo ARGS="--prompts 500 --json"
	@$(BIN)/gemqueue demo $(ARGS)

check: .venv/dev.stamp ## The quick loop, a minute: ruff, import contracts, mypy, tests of pure code
	@$(TOGETHER) pure types style contracts

test: .venv/dev.stamp ## Everything that CI runs; make test ARGS="tests/embedded -k lock" picks tests
	@$(if $(ARGS),,echo 'On two cores make test takes about 8 minutes: linters, all tests, short proofs, official clients.')
	@$(TOGETHER) $(if $(ARGS),tests-chosen,tests-first tests-second clients) strict types style contracts

proofs: .venv/dev.stamp ## The long proofs, two to three hours: make proofs ARGS="soak failover" picks some
	@$(BIN)/python -m tests.proofs $(ARGS)

matrix: .venv/dev.stamp ## Every server in every mode: make matrix ARGS="--server /path/to/redis-server"
	@$(BIN)/python -m tests.proofs.matrix $(ARGS)

soak: .venv/dev.stamp ## Every fault at once, and a judge: make soak SECONDS=600 SEED=1 JSON=report.json
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) $(if $(JSON),--json '$(JSON)')

lint: style contracts types strict ## ruff, mypy, pyright and the import contracts

format: .venv/dev.stamp ## Let ruff write the code as it wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

installs: .venv/dev.stamp ## What installs where, in fresh environments: make installs ARGS="redis-py"
	$(BIN)/python -m tests.installs $(ARGS)

release: .venv/dev.stamp ## Sdist and wheel into dist/: built twice, checked, tried out, with hashes and an SBOM
	$(BIN)/python -m tests.release $(ARGS)

simulate: .venv/dev.stamp ## Seeds of the simulation: make simulate ARGS="--seeds 100000 --jobs 2 --json report.json"
	$(BIN)/python -m tests.simulation $(ARGS)

# The steps of the targets above. Those that run side by side say what they have to say when they have ended.
PURE := tests/policy tests/language tests/ground tests/house tests/typing tests/proofs/test_mutants.py \
	tests/proofs/test_proofs.py tests/test_docs.py tests/test_house.py tests/test_lua.py tests/test_tidy.py
# Most of the tests' time is waiting, so two halves of them run at once: these folders, and whatever else there is.
FIRST := tests/worker tests/prove tests/stages tests/client tests/upgrades tests/store
PYTEST := $(BIN)/python -m pytest -q --durations=10
TOGETHER := $(MAKE) --no-print-directory --keep-going -j3
said = @{ $(1); } >.venv/$@.log 2>&1; status=$$?; echo "--- $@"; cat .venv/$@.log; exit $$status

style: .venv/dev.stamp
	$(call said,$(BIN)/ruff check . && $(BIN)/ruff format --check .)

contracts: .venv/dev.stamp
	$(call said,$(BIN)/lint-imports)

types: .venv/dev.stamp
	$(call said,$(BIN)/mypy)

strict: .venv/dev.stamp
	$(call said,$(BIN)/pyright --pythonpath $(BIN)/python)

pure: .venv/dev.stamp
	$(call said,$(BIN)/python -m pytest -q --hypothesis-profile=quick $(PURE))

tests-first: .venv/dev.stamp
	@$(PYTEST) $(FIRST)

tests-second: .venv/dev.stamp
	$(call said,$(PYTEST) $(FIRST:%=--ignore=%))

tests-chosen: .venv/dev.stamp
	@$(BIN)/python -m pytest $(ARGS)

clients: .venv/dev.stamp  # the official clients, each in its own environment
	$(call said,$(BIN)/python -m tests.emulator_clients)

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
	@$(BIN)/python -m pip install --quiet --editable '.[all]'
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	@echo 'Installing the tools of make test into .venv ...'
	@$(BIN)/python -m pip install --quiet --no-compile --group dev  # most of it is never imported
	@touch $@
