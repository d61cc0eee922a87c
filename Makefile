# Two commands for a newcomer: `make demo` and `make test`. Each sets up .venv when there is none.

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# the first Python from 3.11 to 3.12 that really starts
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)

.PHONY: help demo test lint format generated image-check clean

help:
	@echo "make demo    train, test and export a model on simulated people made from a real atlas (CPU, minutes)"
	@echo "make test    run the tests"
	@echo "make lint    check style and types"
	@echo "make format  bring the code into our style"
	@echo "make generated    write the Boutiques descriptors and docs/reference.md again from the parsers"
	@echo "make image-check  build the container image and run it without network, home and root (as root; 30 GB)"

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 with venv is needed; name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/python demo/run_demo.py

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generated: $(READY)
	$(BIN)/python tools/make_boutiques.py
	$(BIN)/python tools/make_reference.py

image-check:
	tools/check_image.sh

clean:
	rm -rf $(VENV) demo/output
