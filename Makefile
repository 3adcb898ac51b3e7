# Each target makes what it needs: an environment in .venv, with the versions of CONSTRAINTS.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CONSTRAINTS ?= .ci/constraints.txt
PROFILE ?= default
BACKENDS ?= torch tensorflow tensorflow:nn
JOBS ?= 2
OPTIONS ?=
# Every framework that the suite has an adapter for, those that are not installed here as a version:
# each runs in an environment of its own.
EVERYWHERE ?= torch torch:channels_last tensorflow tensorflow:nn tensorflow:function \
	jax jax:jit keras keras:jax onnx onnxruntime onnxruntime:disabled onnxruntime==1.20.1 numpy \
	flax==0.12.8 openvino==2026.4.1 litert==2.3.0 mlx==0.32.4 opencv==5.0.0.93 \
	tvm==0.27.0.post1 mnn==3.6.1 ncnn==1.0.20261020 paddle==3.3.1 tinygrad==0.14.0
EVERY ?= 1
RUN ?=

# tinygrad reads a number from the variable of this name.
unexport PROFILE

BIN := .venv/bin
PACKAGES := cnnformance spec reference adapters conformance reports
INSTALL := $(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --config-settings editable_mode=strict
# Type checkers follow links to the files there are: another list of files needs other links.
LINKS := .venv/links-$(shell echo $(sort $(wildcard $(addsuffix /*.*,$(PACKAGES) reports/templates))) | cksum | cut -d' ' -f1)

.PHONY: conformance everywhere test trials hostile check ruff mypy pyright mutation soundness scripts report schema docs \
	published-report bench clean

conformance: .venv/frameworks ## PyTorch and TensorFlow against the specification; fails as pytest does
	$(BIN)/python -m pytest conformance $(addprefix --backend ,$(BACKENDS)) --profile $(PROFILE) -n $(JOBS)

everywhere: .venv/dev ## every framework in one run; hours, or with OPTIONS='--level document' minutes
	$(BIN)/python -m pytest conformance $(addprefix --backend ,$(EVERYWHERE)) --profile $(PROFILE) -n $(JOBS) $(OPTIONS)

test: .venv/dev ## the project's own tests, but for those that have targets of their own
	$(BIN)/python -m pytest tests -n $(JOBS) --dist loadgroup -m "not trials and not hostile"
	@echo "left out, and asked by: make trials, make hostile, make mutation, make soundness"

trials: .venv/dev ## every adapter against the NumPy one, and against its own word
	$(BIN)/python -m pytest tests -n $(JOBS) -m trials

hostile: .venv/dev ## backends that hang, crash, lie and leave children behind
	$(BIN)/python -m pytest tests -n $(JOBS) -m hostile

check: ruff mypy pyright ## style and types

ruff: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

mypy: .venv/dev $(LINKS)
	$(BIN)/mypy

pyright: .venv/dev $(LINKS)
	$(BIN)/pyright --pythonpath $(BIN)/python

mutation: .venv/dev ## the share of the faulty backends that the suite catches; EVERY=8 takes one in eight
	$(BIN)/python tests/mutation.py --keep --profile $(PROFILE) --every $(EVERY) --jobs $(JOBS)

soundness: .venv/dev ## no correct backend may be flagged; EVERY likewise
	$(BIN)/python tests/mutation.py --keep --correct --profile $(PROFILE) --every $(EVERY) --jobs $(JOBS)

scripts: .venv/frameworks .venv/dev ## the script of every recorded divergence, run alone, shows it; minutes
	$(BIN)/python tests/scripts.py $(NAMES)

report: .venv/frameworks ## the newest run, or RUN=folder
	$(BIN)/cnnformance report $(RUN)

schema: .venv/frameworks ## the JSON Schemas of records and of the protocol, made from their types
	$(BIN)/python -m cnnformance.reports.schema
	$(BIN)/python docs/protocol_schema.py

docs: .venv/dev ## the site, in build/site; a link that leads nowhere fails
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --doctree-dir build/doctrees docs build/site

published-report: .venv/dev ## the report that the site shows, and its pictures, of a new run or of RUN=folder; minutes
	$(BIN)/python docs/publish.py --jobs $(JOBS) $(RUN)

bench: .venv/frameworks ## the cost of asking
	$(BIN)/python benchmarks/overhead.py $(BACKENDS)

clean: ## remove the environment and what was built
	rm -rf .venv build dist *.egg-info

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/frameworks: pyproject.toml $(CONSTRAINTS) | .venv/bin/pip
	$(INSTALL) --editable '.[torch,tensorflow]'
	touch $@

.venv/dev: .venv/frameworks
	$(INSTALL) --editable '.[dev]'
	touch $@

$(LINKS): .venv/dev
	rm -f .venv/links-*
	$(INSTALL) --no-deps --editable .
	touch $@
