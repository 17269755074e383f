# The front door for developers: each target calls one tool. PYTHON has the dev extra installed.
PYTHON ?= python

.PHONY: help build test lint format types bench docs sanitize wheel ci

help:
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

build: ## compile the extension modules in place
	$(PYTHON) setup.py build_ext --inplace

test: ## run the tests, on the modules built in place or else on the installed package
	$(PYTHON) -m pytest -n auto

lint: ## check the style of Python, Cython and C
	.ci/lint

format: ## put Python files into shape
	ruff check --fix .
	ruff format .

types: ## check the annotations, and the stubs against the modules
	.ci/types $(PYTHON)

bench: ## time the tutorial's three stages here and in other libraries
	$(PYTHON) benchmarks/tutorial.py

docs: ## build the documentation
	$(PYTHON) -m sphinx -W --keep-going -b html docs docs/_build/html

sanitize: ## run the tests on an ASan + UBSan build with Cython's checks
	.ci/sanitize $(PYTHON) -q -n auto

wheel: ## build the source distribution, and the wheel from it, into dist/
	$(PYTHON) -m build

ci: ## everything a change must pass
	.ci/run
