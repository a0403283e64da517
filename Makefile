# `make demo` and `make test` do all the set-up themselves: a virtual environment in .venv with the
# versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS := tests --ignore tests/image --ignore tests/cluster --ignore tests/browser --ignore tests/monitoring
JOBS ?= 3

# One thread per library: the test processes would otherwise fight for the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo batch-demo test test-lowest library-sets coverage soak bench image image-gpu image-test cluster-test browser-test monitoring-test check format constraints allow-list clean

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ \t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	touch $@

demo: $(VENV)/.installed  ## Train, save and serve the systems of ADR-031; ONCE=1 stops after the answers.
	$(BIN)/python examples/demo.py $(if $(ONCE),--once)

batch-demo: $(VENV)/.installed  ## Score a generated Parquet file of a million rows (ROWS), and print the figures.
	$(BIN)/python examples/batch_demo.py $(if $(ROWS),--rows $(ROWS))

# Files of tests run side by side, since the end-to-end ones mostly wait.
PYTEST_OPTIONS := --numprocesses $(JOBS) --dist loadfile

# An installed package has its byte code, as this gives it to the sources.
COMPILE := $(BIN)/python -m compileall -q runtime

test: $(VENV)/.installed  ## Run every test but those of image, cluster and browser, three files at a time (JOBS).
	$(COMPILE)
	$(BIN)/python -m tests.gate $(PYTEST_OPTIONS) $(TESTS)

coverage: $(VENV)/.installed  ## Run them with branch coverage, which takes twice as long, and hold its floor.
	$(BIN)/python -m tests.gate $(PYTEST_OPTIONS) --cov --cov-report= --cov-fail-under=0 $(TESTS)
	$(BIN)/coverage report

.venv-lowest/.installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt \
		--editable '.[all,dev]'
	touch $@

test-lowest: .venv-lowest/.installed  ## Run the tests with the lowest versions that pyproject.toml allows.
	.venv-lowest/bin/python -m tests.gate $(PYTEST_OPTIONS) $(TESTS)

library-sets: $(VENV)/.installed .venv-lowest/.installed  ## Save the models of tests/library_sets with each set of versions.
	$(BIN)/python -m tests.library_sets.make
	$(BIN)/python -m tests.library_sets.save current
	.venv-lowest/bin/python -m tests.library_sets.save lowest

soak: $(VENV)/.installed  ## Swap, break and kill servers under load for MINUTES (10); lost or wrong answers fail.
	$(COMPILE)
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.installed  ## Measure beside KServe's server, for ten minutes; QUICK=1 for one round.
	$(COMPILE)
	$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick)
	$(BIN)/python benchmarks/growth.py $(if $(QUICK),--quick)

image:  ## Build both images, with the versions of SET=FILE; INSTALL_ENGINE=1 installs and starts what is missing (root, Debian).
	PYTHON=$(PYTHON) SET=$(SET) tests/image/engine.sh tests/image/build.sh full sklearn

image-gpu:  ## Build the image with torch's CUDA build; it is several GB large.
	tests/image/engine.sh tests/image/build.sh gpu

image-test: image $(VENV)/.installed  ## Run the images as a platform does: any user, read-only, limits.
	tests/image/engine.sh $(BIN)/python -m pytest tests/image

cluster-test: $(VENV)/.installed  ## Apply servingruntimes/ to KUBECONFIG's cluster, or a started one; FULL=1: both images.
	FULL=$(FULL) PYTHON=$(BIN)/python tests/cluster/run.sh

monitoring-test: $(VENV)/.installed  ## Ask a real Prometheus all queries and alerts; INSTALL_PROMETHEUS=1 installs it (root, Debian).
	tests/monitoring/prometheus.sh $(BIN)/python -m pytest tests/monitoring

browser-test: $(VENV)/.installed  ## Test the page in a headless Chromium; INSTALL_BROWSER=1 installs it (root, Debian).
	INSTALL_BROWSER=$(INSTALL_BROWSER) tests/browser/browser.sh $(BIN)/python -m pytest tests/browser

check: $(VENV)/.installed  ## Check format, lint and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## Format and sort the sources.
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

constraints:  ## Pin anew what a fresh environment resolves to.
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/pip install --quiet 'torch==2.13.0' '.[all,dev]'
	(sed -n '/^#/p' constraints.txt; build/constraints/bin/pip freeze --exclude bundleserver \
		| sed 's/^torch==\([0-9.]*\)+cpu/torch==\1/') > build/constraints.txt
	mv build/constraints.txt constraints.txt

# The versions of scikit-learn between the lowest and the highest, each put before the newest of the rest.
BETWEEN := 1.7.2 1.8.0
RECORD := -m tests.allow_list.record
OF_SKLEARN := combined with_parts every_estimator

allow-list: $(VENV)/.installed .venv-lowest/.installed  ## Make the list of names that pickles may use; half an hour.
	rm -rf build/allow-list && mkdir -p build/allow-list
	.venv-lowest/bin/python $(RECORD) build/allow-list/lowest.json
	for version in $(BETWEEN); do \
		$(BIN)/pip install --quiet --disable-pip-version-check --no-deps \
			--target build/allow-list/$$version "scikit-learn==$$version" && \
		PYTHONPATH=build/allow-list/$$version $(BIN)/python $(RECORD) \
			build/allow-list/sklearn-$$version.json $(OF_SKLEARN) || exit 1; \
	done
	$(BIN)/python $(RECORD) build/allow-list/highest.json
	$(BIN)/python -m tests.allow_list.make build/allow-list/lowest.json \
		$(BETWEEN:%=build/allow-list/sklearn-%.json) build/allow-list/highest.json

clean:  ## Remove the environment and everything built.
	rm -rf $(VENV) .venv-lowest build dist .coverage* .mypy_cache .pytest_cache .ruff_cache
