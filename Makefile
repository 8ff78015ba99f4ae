# The commands of the project: `make` lists them.
SHELL := bash
PYTEST_JOBS ?= auto
ARGS ?=

help:
	@echo "make setup   environment .venv: Python 3.11, torch 1.13.1, k2 (3.5 GB)"
	@echo "make demo    the main job on synthetic commands; results in exp/demo (ARGS=... goes to hybrid run)"
	@echo "make test    all tests (ARGS=... goes to pytest)"
	@echo "make lint    ruff and mypy"
	@echo "make modern  environment .venv-modern (torch 2, no k2), and the tests that need no k2"
	@echo "make lock    remake requirements/*.lock from *.in (UPGRADE=1: newest versions)"
	@echo "make clean   delete both environments and the caches; runs in exp/ are kept"

# An empty file that is as old as the last complete setup.
.venv/.k2: requirements/k2.lock requirements/bootstrap.lock requirements/setup.sh pyproject.toml
	requirements/setup.sh k2 .venv

.venv-modern/.modern: requirements/modern.lock requirements/modern-cpu.lock requirements/modern-cuda.lock \
    requirements/bootstrap.lock requirements/setup.sh pyproject.toml
	requirements/setup.sh modern .venv-modern

setup: .venv/.k2

demo: setup
	.venv/bin/hybrid run demo --exp exp/demo $(ARGS)
	.venv/bin/hybrid report exp/demo

test: setup
	.venv/bin/python -m pytest -n $(PYTEST_JOBS) --dist loadfile $(ARGS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/mypy

modern: .venv-modern/.modern
	.venv-modern/bin/python -m pytest -n $(PYTEST_JOBS) --dist loadfile -m "not k2 and not slow" $(ARGS)

lock: setup
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python requirements/lock.py $(if $(UPGRADE),--upgrade)

clean:
	rm -rf .venv .venv-modern .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './exp/*' -prune -exec rm -rf {} +

.PHONY: help setup demo test lint modern lock clean
