# The commands of the project: `make` lists them.
SHELL := bash
PYTEST_JOBS ?= auto
ARGS ?=

# Which environment all commands are of: STACK=..., given to make or exported, else what `make setup` was last given.
STACK ?= $(or $(shell cat .stack 2>/dev/null),k2)
ifeq ($(STACK),k2)
ENV := .venv
else ifeq ($(STACK),modern)
ENV := .venv-modern
WITHOUT := -m "not k2"
else
$(error STACK is "$(STACK)": use k2 (torch 1.13.1, k2) or modern (torch 2, for newer GPUs))
endif
READY := $(ENV)/.$(STACK)

help:
	@echo "make setup   environment .venv: Python 3.11, torch 1.13.1, k2 (3.5 GB)"
	@echo "make setup STACK=modern   .venv-modern instead, for all commands from now on: torch 2, for newer GPUs, no k2"
	@echo "             (TORCH=cuda or cpu: the build of torch; CUDA where there is a GPU). STACK=k2 goes back. Now: $(STACK)"
	@echo "make demo    the main job on synthetic commands; results in exp/demo (ARGS=... goes to hybrid run)"
	@echo "make test    all tests, or all that need no k2 (ARGS=... goes to pytest)"
	@echo "make lint    ruff and mypy"
	@echo "make modern  the tests that need no k2 in .venv-modern, but for slow ones"
	@echo "make lock    remake requirements/*.lock from *.in (UPGRADE=1: newest versions)"
	@echo "make clean   delete both environments and the caches; runs in exp/ are kept"

# An empty file that is as old as the last complete setup.
.venv/.k2: requirements/k2.lock requirements/bootstrap.lock requirements/setup.sh pyproject.toml
	requirements/setup.sh k2 .venv

.venv-modern/.modern: requirements/modern.lock requirements/modern-cpu.lock requirements/modern-cuda.lock \
    requirements/bootstrap.lock requirements/setup.sh pyproject.toml $(if $(TORCH),another-torch)
	requirements/setup.sh modern .venv-modern

setup: $(READY)
	@echo $(STACK) > .stack

demo: $(READY)
	$(ENV)/bin/hybrid run demo --exp exp/demo $(ARGS)
	$(ENV)/bin/hybrid report exp/demo

test: $(READY)
	$(ENV)/bin/python -m pytest -n $(PYTEST_JOBS) --dist loadfile $(WITHOUT) $(ARGS)

lint: $(READY)
	$(ENV)/bin/ruff check .
	$(ENV)/bin/mypy

modern: .venv-modern/.modern
	.venv-modern/bin/python -m pytest -n $(PYTEST_JOBS) --dist loadfile -m "not k2 and not slow" $(ARGS)

lock: .venv/.k2
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python requirements/lock.py $(if $(UPGRADE),--upgrade)

clean:
	rm -rf .venv .venv-modern .stack .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './exp/*' -prune -exec rm -rf {} +

.PHONY: help setup demo test lint modern lock clean another-torch
