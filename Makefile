# Install, run and test from a clone: `make quickstart`, `make test`, `make help`.

# Settings, to be given before or after `make`:
#   HOST=cupy          SpikingJelly 2.0.0rc1 with CuPy, in .venv-cupy
#   PYTHON=python3.12  the Python (>= 3.11) that a new environment is made with
#   CUPY=cupy12        with HOST=cupy: the CuPy for CUDA 12 instead of CUDA 13
#   ARGS="..."         further arguments of the quickstart or of pytest
PYTHON ?= python3
HOST ?= default
CUPY ?= cupy13
ARGS ?=

# Some shells export HOST as the name of the machine, which asks for nothing here; the
# same word on make's command line is a mistake.
ifeq ($(filter $(HOST),default cupy),)
  ifeq ($(origin HOST),environment)
    $(info ==> HOST=$(HOST) in the environment is neither `default` nor `cupy`: using the default host)
    override HOST := default
  else
    $(error Expected `HOST` to be `default` or `cupy`, got `$(HOST)`)
  endif
endif
ifeq ($(filter $(CUPY),cupy12 cupy13),)
  $(error Expected `CUPY` to be `cupy12` or `cupy13`, got `$(CUPY)`)
endif

ifeq ($(HOST),cupy)
  VENV := .venv-cupy
  HOST_EXTRA := ,$(CUPY)
else
  VENV := .venv
  HOST_EXTRA :=
endif
CONSTRAINTS := constraints/$(HOST).txt
VENV_PYTHON := $(VENV)/bin/python
COMMA := ,

# One stamp for each set of extras, written only after pip has succeeded. The state
# file tells environments that make built here (and may build again) from those that
# somebody else did, and a whole one from one whose installation was interrupted.
STATE := $(VENV)/.made-by-make
FOR_RUNS := $(VENV)/.installed-for-runs
FOR_TESTS := $(VENV)/.installed-for-tests
INSTALL_INPUTS := pyproject.toml constraints/common.txt $(CONSTRAINTS)

CHECK_PYTHON = import sys; sys.version_info >= (3, 11) or sys.exit( \
  "Expected Python >= 3.11, got %d.%d from %s." % (sys.version_info[:2] + (sys.executable,)))

.DEFAULT_GOAL := help
.PHONY: help quickstart reproduce-demo test test-full install lint clean
.DELETE_ON_ERROR:

help: ## List these targets
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/  make \1|\2/p' Makefile \
	  | awk -F'|' '{ printf "%-21s %s\n", $$1, $$2 }'
	@echo 'Settings:'
	@sed -n 's/^#   \([A-Z]*=\)/  \1/p' Makefile

quickstart: $(FOR_RUNS) ## Install, then train three small networks and write a report
	@echo '==> Running the quickstart (3 to 6 minutes on 2 cores)'
	$(VENV_PYTHON) -m benchmarks quickstart $(ARGS)

# Rows and report of the demos lie beside their runs, not among published results.
reproduce-demo: $(FOR_RUNS) ## Install, then run every experiment at demo size and a report
	@echo '==> Running all experiments at demo size (at most 40 minutes on 2 cores)'
	$(VENV_PYTHON) -m benchmarks run --all --demo --runs runs/demo \
	  --results runs/demo/experiments.csv $(ARGS)
	@echo '==> Writing the report (seconds)'
	$(VENV_PYTHON) -m benchmarks report --results runs/demo/experiments.csv \
	  --runs runs/demo --output runs/demo/report

test: $(FOR_TESTS) ## Install, then run the test suite
	@echo '==> Running the tests (at most 10 minutes on 2 cores)'
	$(VENV_PYTHON) -m pytest $(ARGS)

test-full: $(FOR_TESTS) ## The same with the exhaustive tables and more examples
	@echo '==> Running all tests and the exhaustive tables (they can take an hour)'
	$(VENV_PYTHON) -m pytest -m '' --hypothesis-profile=full $(ARGS)

install: $(FOR_RUNS) ## Make the environment with the versions of published results
	@echo '==> $(VENV) is ready: `. $(VENV)/bin/activate` enters it'

lint: $(FOR_TESTS) ## Check style, format and types
	@echo '==> Checking style and docstrings (seconds)'
	$(VENV_PYTHON) -m ruff check .
	@echo '==> Checking the format (seconds)'
	$(VENV_PYTHON) -m ruff format --check .
	@echo '==> Checking the types of sj_ext (a minute the first time)'
	$(VENV_PYTHON) -m mypy sj_ext

clean: ## Remove what make and the tools made; runs and prepared data stay
	@for folder in .venv .venv-cupy; do \
	  if [ -e $$folder/.made-by-make ]; then \
	    echo "==> Removing $$folder"; rm -rf $$folder; \
	  fi; \
	done
	@echo '==> Removing caches and build folders'
	@rm -rf .host-* build sj_ext.egg-info
	@rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find sj_ext benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Call with the extras and the stamps that these complete.
define install
	@if grep -qs unfinished $(STATE); then \
	  echo '==> The last installation into $(VENV) did not end: starting it again'; \
	  rm -rf $(VENV); \
	fi
	@if [ ! -x $(VENV_PYTHON) ]; then \
	  $(PYTHON) -c '$(CHECK_PYTHON)' \
	    || { echo 'Name a Python >= 3.11: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 1; }; \
	  echo "==> Making $(VENV) with `$(PYTHON) --version` (10 seconds)"; \
	  mkdir -p $(VENV) && echo unfinished > $(STATE) && $(PYTHON) -m venv $(VENV) \
	    || exit 1; \
	fi
	@$(VENV_PYTHON) -c '$(CHECK_PYTHON)' \
	  || { echo 'Remove $(VENV), then name a newer one: make PYTHON=python3.12' >&2; exit 1; }
	@if [ -e $(STATE) ]; then echo unfinished > $(STATE); fi
	@echo '==> Installing $(1) into $(VENV) (2 to 5 minutes and 6 GB the first time)'
	@if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; \
	  $(VENV_PYTHON) -m pip install --disable-pip-version-check $$quiet \
	    -c $(CONSTRAINTS) -e '$(1)'
	@if [ -e $(STATE) ]; then echo finished > $(STATE); fi
	@touch $(2)
	@echo '==> Installed'
endef

$(FOR_RUNS): $(INSTALL_INPUTS)
	$(call install,.[benchmarks$(HOST_EXTRA)],$(FOR_RUNS))

# The extras of the tests hold those of the runs, so that one installation serves both.
$(FOR_TESTS): $(INSTALL_INPUTS)
	$(call install,.[benchmarks$(COMMA)test$(HOST_EXTRA)],$(FOR_RUNS) $(FOR_TESTS))
