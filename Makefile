# Each target sets up .venv by itself. Needs Python 3.11 or 3.12 and, for the first run, a package index.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo test style bench clean
.DEFAULT_GOAL := demo

$(VENV)/.installed: setup.cfg constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or 3.12 found; install one or pass PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -c constraints.txt -e ".[nuscenes,test]"
	@touch $@

demo: $(VENV)/.installed  ## evaluate pruned planning on the bundled demo world
	$(PY) tools/eval_planning.py $(ARGS)

style: $(VENV)/.installed  ## lint, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test: style  ## lint, types and the fast tests
	$(PY) -m pytest -q $(ARGS)

bench: $(VENV)/.installed  ## time pruning on the CPU decoder
	$(PY) tools/benchmark.py --config configs/benchmark/cpu_decoder.yaml $(ARGS)

clean:  ## remove what make installed
	rm -rf $(VENV) *.egg-info
