# Two targets set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
WORKERS := -n auto --dist loadgroup --no-loadscope-reorder
# options for pytest, such as PYTEST_OPTIONS="--durations 60"
PYTEST_OPTIONS ?=
# the Python of `make test-python`
PY ?= 3.13
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# empty: modules are compiled once, also where the environment forbids it
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-quick test-python coverage mutation lint types check bench browser screenshots docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: .venv/demo ## install, index the pictures in data/, run a query by example and one by a word, write contact sheets
	$(BIN)/simsearch index data/objects
	$(BIN)/simsearch query data/objects/lamp/lamp_03.jpg --in indexes/objects -k 10 --exclude-self --sheet indexes/demo.png
	$(BIN)/simsearch query --text lamp --in indexes/objects -k 10 --sheet indexes/demo-text.png
	@echo "Look at indexes/demo.png and indexes/demo-text.png"
	@echo "Your own pictures: . $(BIN)/activate; simsearch index ~/photos"

test: .venv/dev ## install the test dependencies and run the whole suite
	$(BIN)/python -m pytest $(WORKERS) $(PYTEST_OPTIONS) -m "not thorough"

test-all: .venv/dev ## the suite with the thorough tests: every network, killed Ray workers, API fuzzing in depth
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest $(WORKERS) $(PYTEST_OPTIONS)

test-quick: .venv/dev ## the suite without the long tests
	$(BIN)/python -m pytest $(WORKERS) $(PYTEST_OPTIONS) -m "not long and not thorough"

test-python: ## the quick suite with another Python: make test-python PY=3.13, which uv or pyenv has, or the system
	@python=$$({ command -v uv >/dev/null && uv python find $(PY) 2>/dev/null; } \
		|| ls -d "$$HOME"/.pyenv/versions/$(PY)*/bin/python 2>/dev/null | tail -1 | grep . \
		|| command -v python$(PY)) \
		|| { echo "Python $(PY) is not on this machine; install it with uv or pyenv" >&2; exit 1; }; \
	echo "$$python"; "$$python" -m venv .venv-$(PY) && .venv-$(PY)/bin/python -m pip install -q -e '.[dev]' \
		&& .venv-$(PY)/bin/python -m pytest $(WORKERS) $(PYTEST_OPTIONS) -m "not long and not thorough"

coverage: .venv/dev ## branch coverage of `make test`: the least covered modules, and pages in coverage/
	$(BIN)/python -m pytest $(WORKERS) $(PYTEST_OPTIONS) -m "not thorough" --cov --cov-report html:coverage --cov-report term

mutation: .venv/dev ## put 40 seeded faults into copies of the product, one by one: the tests must notice each
	$(BIN)/python -m tests.mutation

lint: .venv/dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev ## mypy, strict
	$(BIN)/mypy

check: lint types test ## everything that must hold before a commit

bench: .venv/dev ## repeat the measurements of bench/RESULTS.md (half an hour)
	$(BIN)/python -m pip install -q -e '.[dev,bench]'
	$(BIN)/python -m bench

browser: ## install Chromium for the tests of the page (Debian; needs root)
	apt-get update && apt-get install -y --no-install-recommends chromium

docs: .venv/dev ## build the documentation as a site in site/; fails on a broken link
	$(BIN)/python -m pip install -q -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

screenshots: .venv/dev ## take the screenshots in docs/ again
	SIMSEARCH_SCREENSHOTS=docs $(BIN)/python -m pytest -q tests/web/test_in_a_browser.py -k screenshots

clean: ## remove the environment, indexes and caches
	rm -rf .venv site indexes/* .mypy_cache .pytest_cache .ruff_cache

.venv/demo: pyproject.toml
	@echo "installing simsearch and what it needs into .venv: a few minutes, 2.6 GB"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e .
	@touch $@

.venv/dev: pyproject.toml
	@echo "installing simsearch and the test dependencies into .venv: some minutes, 3.9 GB"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --no-compile -e '.[dev]'
	@touch $@ .venv/demo
