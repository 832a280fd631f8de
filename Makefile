# The commands of this project. `make demo` and `make test` are the two that the README promises.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Fewer tests with real daemons than this, and `make test` fails.
REAL_PEERS := 0

.PHONY: help setup demo test quick kernel check format bench lock clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## install what is missing: Debian packages and a virtual environment
	@packaging/setup.sh $(VENV)

demo: setup ## two PoPs, real daemons, a client: break them and watch
	@$(BIN)/python -m lab demo

test: setup ## everything: what needs no daemon, then single daemons and the lab beside each other; two workers each
	@$(PYTEST) -n 2 -m "not peer and not lab" $(PYTEST_ARGS); pure=$$?; \
	$(PYTEST) -n 2 --dist loadgroup --no-loadscope-reorder -m "peer or lab" --real-peers-at-least=$(REAL_PEERS) $(PYTEST_ARGS) && exit $$pure

quick: setup ## all at once, for the hurried: what waits for real daemons may find the machine busy
	@$(PYTEST) -n 2 --dist loadgroup --no-loadscope-reorder $(PYTEST_ARGS)

kernel: ## build the guest kernel of tests/kernel into the cache (once: minutes); without it those tests are skipped
	@packaging/uml/build.sh

check: setup ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@MYPYPATH=exabgp/relay $(BIN)/mypy --strict --config-file= exabgp/launch.py exabgp/relay/*.py
	@$(BIN)/lint-imports

format: setup ## rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## one line per figure, and bench.json
	@$(BIN)/python -m tests.bench

lock: setup ## resolve the dependencies anew into requirements.lock
	@$(BIN)/uv pip compile --quiet --no-header --generate-hashes --all-extras --group dev --group rivals --python-version 3.11 pyproject.toml -o requirements.lock

clean: ## remove what setup and the tests left in the checkout
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache bench.json build *.egg-info
