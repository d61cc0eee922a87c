# Two commands for a newcomer: `make demo` and `make test`. Each sets up .venv when there is none.

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# the first Python from 3.11 to 3.13 that really starts
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

# Task04_Hippocampus of the Medical Segmentation Decathlon
MSD ?= ../shared/data/msd_hippocampus

.PHONY: help demo review-demo test lint format generated image-check default-model clean

help:
	@echo "make demo    segment a real head, then train, test and export a model on simulated people (CPU, minutes)"
	@echo "make review-demo  correct and approve the demo's people in the browser (runs the demo first where it has not run)"
	@echo "make test    run the tests (OPTIONS=--random-order: in another order each time)"
	@echo "make lint    check style and types"
	@echo "make format  bring the code into our style"
	@echo "make default-model MSD=FOLDER  train the built-in model anew (hours), see docs/default-model.md"
	@echo "make generated    write the Boutiques descriptors and docs/reference.md again from the parsers"
	@echo "make image-check  build the container image and run it without network, home and root (as root; 30 GB)"

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv is needed; name it: make PYTHON=/path/to/python3.13"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/python demo/run_demo.py

review-demo: $(READY)
	@test -d demo/output/study || $(BIN)/python demo/run_demo.py
	$(BIN)/python run.py demo/output/patients demo/output/study review --serve

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(OPTIONS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

default-model: $(READY)
	$(BIN)/python models/train_default.py --msd $(MSD)

generated: $(READY)
	$(BIN)/python tools/make_boutiques.py
	$(BIN)/python tools/make_reference.py

image-check:
	tools/check_image.sh

clean:
	rm -rf $(VENV) demo/output
