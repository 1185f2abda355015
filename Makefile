# Everything starts here: `make demo` and `make test` install what they need, once, and then only run.
#
# Another Python:       make PYTHON=python3.12 demo
# Options of a command: make demo ARGS="--data fsdd --data-dir DIR --holdout NAME"

PYTHON ?= python3
ARGS ?=
JOBS ?= 2
export PYTHON

# Small matrices: more BLAS threads than one only wait for each other.
export OPENBLAS_NUM_THREADS ?= 1

BIN := .venv/bin
CORE := ctypes_core/deltatrain_core
CORE_SOURCES := $(wildcard $(CORE)/build_core.py $(CORE)/src/*.[ch] $(CORE)/include/*.h)
PACKAGING := setup.cfg setup.py pyproject.toml
NODE_MODULES := tests/micropython/node_modules

.PHONY: help demo test test-micropython setup study-speakers study-voices study-sweep study-parity study-weights \
	study-drift study-equality study-cores study-power study-replay study-growth study-192k study-link soak fuzz digits clean \
	debian

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: setup ## the main job on the embedded data: export, emulator, training on the device, comparison, report
	@$(BIN)/deltatrain demo $(ARGS)

test: setup ## ruff, mypy (strict) and every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n $(JOBS) $(ARGS)

setup: .venv/.core $(NODE_MODULES)/.made ## Debian packages, the Python environment .venv, and MicroPython for node, where missing

test-micropython: setup ## the native module in MicroPython's own ports, under QEMU too (MPY_DIR=DIR, its source tree; ten minutes)
	$(BIN)/python tests/study_native.py --data-dir $(or $(DATA_DIR),$(DELTATRAIN_DATA),$(firstword $(wildcard ../*/data)),.) $(ARGS)

study-speakers: setup ## each speaker of fsdd held out, three seeds (DATA_DIR=DIR; about half an hour)
	$(BIN)/deltatrain study personal --data fsdd --data-dir $(or $(DATA_DIR),$(DELTATRAIN_DATA),.) --jobs $(JOBS) $(ARGS)

study-voices: setup ## each held-out voice of the embedded data, three seeds
	$(BIN)/deltatrain study personal --data digits --jobs $(JOBS) $(ARGS)

study-sweep: setup ## thresholds, error and operations on fsdd, 350 models (DATA_DIR=DIR; about an hour on two cores)
	$(BIN)/deltatrain sweep --data fsdd --data-dir $(or $(DATA_DIR),$(DELTATRAIN_DATA),.) --jobs $(JOBS) $(ARGS)

study-parity: setup ## float64 against fixed point on fsdd, from scratch and in personalisation (DATA_DIR=DIR; 20 minutes)
	$(BIN)/deltatrain study parity --data fsdd --data-dir $(or $(DATA_DIR),$(DELTATRAIN_DATA),.) --jobs $(JOBS) $(ARGS)

study-weights: setup ## int8, 24 bits and other roundings of the weights, after study-parity (DATA_DIR=DIR; half an hour)
	$(BIN)/python tools/study_weights.py --data-dir $(or $(DATA_DIR),$(DELTATRAIN_DATA),.) --jobs $(JOBS) $(ARGS)

study-drift: setup ## M over 10,000 frames, in float32 and in integers: docs/drift.png
	$(BIN)/python tools/study_drift.py $(ARGS)

study-equality: setup ## 12,000 random training steps on every build of the core, word by word (some ten minutes)
	$(BIN)/python tests/study_equality.py --jobs $(JOBS) $(ARGS)

study-cores: setup ## random models trained on every board, every word compared (some ten minutes)
	$(BIN)/python tests/study_cores.py --jobs $(JOBS) $(ARGS)

study-replay: setup ## what stored exemplars of old speakers buy, on fsdd (DATA_DIR=DIR; about half an hour)
	$(BIN)/deltatrain study replay --data fsdd --data-dir $(or $(DATA_DIR),$(DELTATRAIN_DATA),.) --jobs $(JOBS) $(ARGS)

study-192k: setup ## 56,000 parameters trained on fsdd in 192 KiB of RAM, every word compared (DATA_DIR=DIR; five minutes)
	$(BIN)/python tools/study_192k.py --data-dir $(or $(DATA_DIR),$(DELTATRAIN_DATA),.) $(ARGS)

study-power: setup ## 200 kills of an emulator that trains, every restart checked word by word (some five minutes)
	$(BIN)/python tests/study_power.py $(ARGS)

study-growth: setup ## a training step's cost by sparsity, frames, hidden units, layers: docs/growth.csv, .png (some minutes)
	$(BIN)/python tools/bench_docs.py $(ARGS)

study-link: setup ## training over bad serial lines, every word compared: docs/link.csv, .png (some twelve minutes)
	$(BIN)/python tests/study_link.py $(ARGS)

fuzz: setup ## libFuzzer at frames, server and model files, 10 million inputs or 20 minutes each; the lines reached
	$(BIN)/python tests/study_fuzz.py $(ARGS)

soak: setup ## 10,000 training steps on the emulated Cortex-M4F, read back and compared every 100 (some ten minutes)
	$(BIN)/python tests/soak.py $(ARGS)

digits: setup ## synthesise the embedded data set anew (needs espeak-ng)
	.ci/debian espeak-ng
	$(BIN)/python tools/make_digits.py $(ARGS)

clean: ## remove the environment and all that was built
	rm -rf .venv build dist host/*.egg-info *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf $(NODE_MODULES)
	rm -f $(CORE)/_core.*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

debian:
	@.ci/debian

# The environment follows the packaging files, and the C extension in it follows the C sources too.
.venv/.environment: $(PACKAGING) | debian
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "deltatrain needs Python 3.11 or newer: make PYTHON=python3.12, say"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

.venv/.core: .venv/.environment $(CORE_SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace --force
	@touch $@

# MicroPython itself, as the tests run it.
$(NODE_MODULES)/.made: tests/micropython/package-lock.json | debian
	npm ci --silent --no-audit --no-fund --prefix tests/micropython
	@touch $@
