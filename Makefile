# A machine needs Python 3.11 or newer, make and bash. V=1 shows the whole output of pip and uv.

SHELL := bash

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; \
	done)

# Tests mostly wait: four processes of them keep two cores busy. A file's tests stay together, in order; tests/e2e, the
# slowest, comes first. A test that takes nine minutes hangs: its process ends with the stack of every thread, and the run.
WHOLE_SUITE := --numprocesses=4 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0 \
	-o faulthandler_timeout=540 -o faulthandler_exit_on_timeout=true

.DEFAULT_GOAL := help
.PHONY: help install install-stack install-tools demo dev test coverage fuzz chaos mutants contract lint audit format clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: install-stack ## make a graph of a folder of text, and show each message on the way
	@.venv/bin/graphnode demo

dev: install-stack ## run PostgreSQL, LocalStack, the worker, a stand-in AI server and the console until Ctrl-C, and show their logs
	@.venv/bin/graphnode dev

test: install ## run all tests
	@.venv/bin/python -m pytest $(WHOLE_SUITE)

coverage: install ## run all tests, and list the lines that none of them runs; this takes half as long again
	@.venv/bin/python -m pytest $(WHOLE_SUITE) --cov --cov-report=term-missing:skip-covered

mutants: install ## break the worker's promises on purpose, in a copy, and list which check notices each
	@.venv/bin/python -m tests.mutants

CHAOS_MINUTES ?= 10

chaos: install ## break things for CHAOS_MINUTES (10) by CHAOS_SEED (any), and check that nothing is lost or doubled
	@.venv/bin/python -m tests.chaos --minutes $(CHAOS_MINUTES) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED)) $(if $(CHAOS_FAULT),--fault "$(CHAOS_FAULT)")

contract: install ## check the contract's files with ajv, AsyncAPI's parser and tsc, from npm
	@if command -v npm >/dev/null; then npm ci --prefix contract/check --ignore-scripts --no-audit --no-fund; \
	else echo "Node.js is not installed: ajv, AsyncAPI's parser and tsc are left out."; fi
	@.venv/bin/python -m pytest tests/contract

FUZZ_MINUTES ?= 10

fuzz: install-tools ## search for input that breaks a decoder, FUZZ_MINUTES (10) each
	@$(INSTALL) .venv/.installed-fuzz
	@.venv/bin/python -m tests.fuzz --minutes $(FUZZ_MINUTES)

lint: install-tools ## check style, format, types and security
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/bandit --quiet --configfile pyproject.toml --recursive graphnode
	@.venv/bin/cfn-lint deploy/cloudformation.yml

audit: install-tools ## list newer versions, and known vulnerabilities of what the locks install: fails if there are any
	@$(UV) pip list --outdated --exclude-editable --python .venv/bin/python
	@failed=; for lock in locks/ai.txt locks/localstack.txt; do echo "$$lock:"; \
		$(UV) tool run --from 'pip-audit>=2.9,<3' pip-audit --strict --disable-pip --require-hashes --requirement $$lock \
		|| failed="$$failed $$lock"; done; test -z "$$failed" \
		|| { echo "pip-audit found a vulnerability in$$failed, or could not look a package up: it says above which."; exit 1; }

format: install-tools ## format the code, and fix what ruff can fix
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

# The locks name no registry: a hash says which file it is, wherever it comes from.
.PHONY: lock image-check release-check keep-release
LOCK = $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header

lock: install-tools ## pin what the image and LocalStack install to the newest versions that are allowed, with hashes
	@.venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' \
		| $(LOCK) --output-file locks/build.txt -
	@$(LOCK) --extra console --extra otel --extra sentry --output-file locks/worker.txt setup.cfg
	@$(LOCK) --extra console --extra otel --extra sentry --extra ai --constraint locks/worker.txt --output-file locks/ai.txt setup.cfg
	@$(LOCK) --output-file locks/localstack.txt localstack/requirements.txt

image-check: install ## replay the Dockerfile without Docker: build, run, ask for health, stop (Linux, as root)
	@.venv/bin/python -m release.image

release-check: install ## build sdist and wheel, install the wheel in a clean environment, run doctor and demo from it
	@.venv/bin/python -m release.wheel $(PYTHONS)

keep-release: install ## keep the wheel of this version, for the tests of the next
	@.venv/bin/python -m release.keep

clean: ## remove all that make and the tests have made; `.graphnode` stays
	@rm -rf .venv contract/check/node_modules build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip fetches uv, and uv installs what a target needs, once it needs it: an extra of setup.cfg, or LocalStack.

install: install-stack install-tools ## install everything that make's other targets need

install-stack: ## install what demo and dev need: the extra dev, and LocalStack in an environment of its own
	@$(INSTALL) -j2 .venv/.installed-dev .venv/.installed-localstack

install-tools: ## install what the tests and checks need: the extra test
	@$(INSTALL) .venv/.installed-test

INSTALL = test -n "$(PYTHON)" || { echo "There is no Python 3.11 or newer on PATH: install one, or say make PYTHON=/path/to/python3."; exit 1; }; \
	$(PYTHON) -I graphnode/dev/install_lock.py $(MAKE) --silent --no-print-directory

# uv does not read pip's configuration: it gets pip's index here. Unlike pip, it compiles only when told to; without that,
# each start of a process compiles what it imports where PYTHONDONTWRITEBYTECODE is set.
UV = UV_COMPILE_BYTECODE=1 UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$($(PIP) config list | sed -n "s/.*\.index-url='\(.*\)'/\1/p" | head -n 1)}" .venv/bin/uv
PIP := .venv/bin/python -m pip --disable-pip-version-check

# Without the list of what was installed, which has a line for each package.
SHORT := 2>&1 | $(if $(V),cat,awk '!/^ [-+~] / {print; fflush()}')

# What the image installs has its version and its hashes here, too: uv checks those of a constraint. The tools have none.
.venv/.installed-%: setup.cfg pyproject.toml locks/ai.txt .venv/.uv
	@echo "Installing graphnode with its extra $* …"
	@set -o pipefail; $(UV) pip install --python .venv/bin/python --constraint locks/ai.txt --editable '.[$*]' $(SHORT)
	@touch $@

.venv/.installed-localstack: locks/localstack.txt .venv/.uv
	@echo "Installing LocalStack …"
	@$(UV) venv --quiet --clear --python .venv/bin/python .venv/localstack
	@set -o pipefail; $(UV) pip install --python .venv/localstack/bin/python --require-hashes --requirement $< $(SHORT)
	@echo "Indexing AWS's services for LocalStack, which takes 4 s once instead of at every start …"
	@mkdir -p .venv/localstack/usr/lib/localstack
	@FILESYSTEM_ROOT=$(CURDIR)/.venv/localstack OVERRIDE_IN_DOCKER=0 .venv/localstack/bin/python -m localstack.aws.spec
	@touch $@

.venv/.uv: .venv/bin/python
	@echo "Making .venv, with uv in it …"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install $(if $(V),,--quiet) "$$(sed -n 's/^ *\(uv>.*\)/\1/p' setup.cfg)"
	@touch $@

# A link to the system's Python. It does not exist at first, nor after that Python was removed: then .venv is made anew.
.venv/bin/python: ;
