# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# "make help" lists the targets. All of them need a network only the first time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
BUILD := .build
# ansible-test and ansible-lint want a folder of this name: a copy, renewed before each use.
TREE := $(BUILD)/ansible_collections/fleet/ssm
RESULTS := $(BUILD)/results

export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/collections
# Ansible starts some thousand times, and would compile its modules each time.
unexport PYTHONDONTWRITEBYTECODE
# pip would name the package index it uses in every log.
export PIP_QUIET := 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1
ifdef CI
export NO_COLOR := 1
export ANSIBLE_NOCOLOR := 1
endif

# Every case is either not slow (unit, integration) or slow (test-long); tests/unit/repository/test_selection.py watches that.
# A worker for each core, with a lab of its own. A file's cases stay together, as they share what they set up.
PYTEST := pytest -q -n $$(getconf _NPROCESSORS_ONLN) --dist loadfile --no-loadscope-reorder
SOON := -m "not slow"
LATER := -m slow

# Its own place for state goes by the last name of a checkout's folder: a run that was killed, even in another checkout, would be taken for this one.
MOLECULE := rm -rf $(BUILD)/molecule && MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/$(BUILD)/molecule molecule test

# Of one core and of all: what has to be run side by side takes half the time. The lab's cases measure time, and have the machine for themselves.
CHECKS := ruff,mypy,docs,ansible-lint,sanity/unit integration molecule

.PHONY: help venv demo lab test test-long test-agent lint bench unit sanity ansible-lint mypy ruff docs integration molecule constraints options clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Setting up

READY := $(VENV)/.ready

venv: $(READY) ## build .venv and collections/ (every other target does it when needed)

# One file of pins for each newest ansible-core: 2.19 on Python 3.11, 2.21 on 3.12 and newer.
CONSTRAINTS := tests/constraints/python$$($(BIN)/python -c 'import sys; print("3.11" if sys.version_info < (3, 12) else "3.12")').txt

$(READY): requirements.txt requirements-dev.txt $(wildcard tests/constraints/*.txt) tests/tools/unpack_collections.py
	@tests/tools/system-packages
	@python=$$(tests/tools/find-python) && test -x $(BIN)/python || { echo "Building $(VENV) with $$python"; "$$python" -m venv $(VENV); }
	@$(BIN)/python -m pip install -r requirements-dev.txt -c $(CONSTRAINTS)
	@$(BIN)/python tests/tools/unpack_collections.py collections
	@touch $@

# What only tests and measurements need, such as a browser.
TESTED := $(VENV)/.test-packages

$(TESTED): $(READY) tests/tools/system-packages
	@tests/tools/system-packages tests
	@touch $@

constraints: $(READY) ## pin what is installed in .venv now (after a change of requirements-dev.txt)
	@pip freeze --exclude setuptools > $(CONSTRAINTS)

options: $(READY) ## write anew what workers read of the connection plugin's options (after a change of their documentation)
	@python tests/tools/connection_options.py

clean: ## remove what was built, except .venv and collections/
	rm -rf $(BUILD) tests/output .hypothesis .pytest_cache .mypy_cache .ruff_cache .ansible

## Trying it out

demo: $(READY) ## playbooks on six nodes of a local lab, start to end, nothing to answer
	@python -m tests.demo

lab: $(READY) ## a local AWS endpoint with nodes, until Ctrl-C (LAB="--nodes 3" passes options on)
	@python -m tests.lab up $(LAB)

## Testing

test: $(TESTED) ## everything that must pass before a change lands
	@python tests/tools/run_parts.py $(CHECKS)

test-long: $(TESTED) ## the slower cases
	@$(PYTEST) $(LATER) tests --junit-xml=$(RESULTS)/long.xml || { echo 'Once more, alone:'; $(ALONE) $(LATER) tests; }
	@$(MOLECULE) --scenario-name agent

test-agent: $(TESTED) ## AGENT=/folder: the integration suite on real agents, compared with our nodes
	@test -x "$(AGENT)/amazon-ssm-agent" || { echo 'Name a folder that holds amazon-ssm-agent and its workers: make test-agent AGENT=/folder' >&2; exit 2; }
	@status=0; $(PYTEST) $(SOON) tests/integration --junit-xml=$(RESULTS)/process.xml || status=$$?; \
	  FLEET_SSM_AGENT="$(AGENT)" $(PYTEST) $(SOON) tests/integration --junit-xml=$(RESULTS)/agent.xml || status=$$?; \
	  python tests/tools/compare_passes.py $(RESULTS)/process.xml $(RESULTS)/agent.xml && exit $$status

lint: ruff mypy docs ansible-lint ## the checks that run nothing

bench: $(TESTED) ## measure against ssh, mitogen and local (BENCH=quick for a short one)
	@python -m tests.bench $(BENCH)

# Some cases measure time, and may miss it where every core is busy with others. What fails is shown, named once more, and must pass alone.
ALONE := pytest -v --last-failed --last-failed-no-failures none

unit: $(TESTED) ## tests without a lab
	@$(PYTEST) $(SOON) tests/unit --junit-xml=$(RESULTS)/unit.xml || { echo 'Once more, alone:'; $(ALONE) $(SOON) tests/unit; }

integration: $(TESTED) ## tests in the lab
	@$(PYTEST) $(SOON) tests/integration --junit-xml=$(RESULTS)/integration.xml || { echo 'Once more, alone:'; $(ALONE) $(SOON) tests/integration; }

molecule: $(READY) ## the molecule scenarios, but for the one that takes a machine with systemd
	@$(MOLECULE) --all --exclude agent

ruff: $(READY)
	@ruff check .

mypy: $(READY)
	@mypy

# Dependencies are copied as git knows them, if it does; this repository's git ignores them, so it must not be asked.
docs: $(READY) ## documentation and changelog fragments
	@python tests/tools/ansible_test_tree.py $(BUILD)
	@cd $(TREE) && GIT_CEILING_DIRECTORIES=$(CURDIR) antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=dependent .
	@cd $(TREE) && antsibull-changelog lint

ansible-lint: $(READY)
	@python tests/tools/ansible_test_tree.py $(BUILD)
	@cd $(TREE) && ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/$(BUILD):$(CURDIR)/collections ansible-lint --profile production --offline

# Its own pip does not hear of PIP_QUIET.
sanity: $(READY) ## ansible-test sanity
	@python tests/tools/ansible_test_tree.py $(BUILD)
	@cd $(TREE) && ansible-test sanity --venv --python $$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])') --color no --truncate 0 2>&1 | \
	  sed -u -e '/^Looking in /d' -e '/^WARNING: Location /d'
