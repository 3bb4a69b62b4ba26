# Every target sets up what it needs in .venv; a second run reinstalls nothing.
PYTHON ?= python3

VENV := .venv
PY := $(VENV)/bin/python
BENCHMARK_READY := $(VENV)/.stamp-benchmark
DEV_READY := $(VENV)/.stamp-dev
PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt
SINGLE_THREADED := test fast warm figures

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help benchmark figures test fast check speed warm clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

benchmark: $(BENCHMARK_READY) ## run every benchmark suite
	$(PY) -m benchmarks

speed: $(BENCHMARK_READY) ## time the estimators
	$(PY) -m benchmarks.speed

figures: $(DEV_READY) ## draw the paper figures and check them; FAST=1 for fewer replications
	$(PY) -m paper_figures $(if $(FAST),--fast)

test: warm ## all tests, the slow statistical lane included
	$(PY) -m pytest -n 2

fast: warm ## the tests that take seconds
	$(PY) -m pytest -n 2 -m "not slow"

check: $(DEV_READY) ## lint, formatting, types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

clean: ## remove .venv, build products and caches, never results
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One process compiles the numba kernels into their cache, so that the test workers do not all do it at once.
warm: $(DEV_READY)
	$(PY) -m tests.warm

# Two workers share the cores. A test that needs more threads starts a process of its own.
$(SINGLE_THREADED): export OMP_NUM_THREADS := 1
$(SINGLE_THREADED): export OPENBLAS_NUM_THREADS := 1
$(SINGLE_THREADED): export MKL_NUM_THREADS := 1
$(SINGLE_THREADED): export NUMBA_NUM_THREADS := 1

# Set-up. The stamps are older than what they depend on exactly when something has to be installed.
$(PY):
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo "*** no virtual environment: see the error above" >&2; exit 1; }

$(BENCHMARK_READY): $(PY) pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[plot,data]' || { echo "*** pip install failed: see its error above" >&2; exit 1; }
	touch $@

# The full set contains what the benchmarks need, so it stamps both.
$(DEV_READY): $(PY) pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[all,dev]' || { echo "*** pip install failed: see its error above" >&2; exit 1; }
	touch $(BENCHMARK_READY) $@
