# `make` lists what there is. One virtual environment serves the template and the service.
VENV ?= $(CURDIR)/.venv
PYTHON ?= python3
VENV_PYTHON = "$(VENV)/bin/python"
SERVICE = <<cookiecutter.project_slug>>

.DEFAULT_GOAL := help
.PHONY: help setup tools demo test chart test-runtime image lint types hooks lock mutate

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

# The service's own `make setup` looks for its requirements file in the environment and finds it.
setup: ## Install what requirements-dev.txt pins; nothing to do when it is installed
	@cmp -s requirements-dev.txt "$(VENV)/template-requirements.txt" || { \
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: Python 3.11 or newer is needed: make setup PYTHON=python3.13" >&2; exit 1; }; \
	  echo "Installing into $(VENV), a minute or so the first time"; \
	  "$(PYTHON)" -m venv "$(VENV)" && \
	  $(VENV_PYTHON) -m pip install --require-hashes --requirement requirements-dev.txt && \
	  cp "$(SERVICE)/requirements-dev.txt" "$(VENV)/installed-requirements.txt" && \
	  cp requirements-dev.txt "$(VENV)/template-requirements.txt"; }

tools: setup ## Install the checkers of pipelines and charts that the tests call (needs Go and npm)
	GOBIN="$(VENV)/bin" go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	npm install --no-audit --no-fund --prefix "$(VENV)" gitlab-ci-local@4.66.1
	cd tools/go/helm-unittest && CGO_ENABLED=0 go build -o "$(VENV)/bin/helm-unittest" \
	  github.com/helm-unittest/helm-unittest/cmd/helm-unittest
	cd tools/go/helm4 && CGO_ENABLED=0 go build -o "$(VENV)/bin/helm4" helm.sh/helm/v4/cmd/helm

demo: setup ## Scaffold a service, run it on an embedded PostgreSQL and send it real requests
	@$(VENV_PYTHON) tools/demo.py

test: setup ## Every test of the template, with each combination's own checks
	@$(VENV_PYTHON) -m pytest --verbose --durations=15 -m "not runtime and not image" --ignore tests/chart

chart: setup ## The chart: its suites, its sums against an oracle, its fit with the service (Helm 3 and 4)
	@$(VENV_PYTHON) -m pytest --verbose --durations=10 tests/chart

test-runtime: setup ## The runtime tests of a scaffolded service: real processes and signals
	@$(VENV_PYTHON) -m pytest --verbose -m runtime

image: setup ## Build the image of scaffolded services and run it (needs docker or podman)
	@$(VENV_PYTHON) -m pytest --verbose -m image

lint: setup ## Style and format of everything, and the service's borders between layers
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@cd "$(SERVICE)" && "$(VENV)/bin/lint-imports" --no-logo
	@cd "$(SERVICE)" && "$(VENV)/bin/hadolint" Dockerfile

types: setup ## Types of everything, strictly
	@echo "Checking types, half a minute the first time"
	@$(VENV_PYTHON) -m mypy
	@cd "$(SERVICE)" && $(VENV_PYTHON) -m mypy

hooks: setup ## Have git check what is committed, before it is
	@"$(VENV)/bin/pre-commit" install

lock: setup ## Pin the dependencies of service and template (ARGS=--upgrade for newer ones)
	@$(VENV_PYTHON) tools/lock.py $(ARGS)

mutate: setup ## Break the service on purpose and see its tests notice (WORDS="rollback drain" for some)
	@$(VENV_PYTHON) tools/mutate.py $(WORDS)
