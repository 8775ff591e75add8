# make demo | test | test-fast | lint | docs | dev | serve TASK=… — a fresh machine needs Python ≥ 3.11, git and make.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
TASK ?= lesion_classification

# `make demo` works in .demo/; DEMO=1 lets dev, serve and mlflow look there
ifneq ($(DEMO)$(filter demo,$(MAKECMDGOALS)),)
export DERM_DATA := $(CURDIR)/.demo/data
export DERM_OUT := $(CURDIR)/.demo/out
export DERM_HOME := $(CURDIR)/.demo/home
endif
# what is written is its owner's alone, also by processes that are not ours (MLflow); DERM_UMASK=027 lets a group read
PRIVATE := umask $${DERM_UMASK:-077} &&
# medical images are private: every dependency's telemetry is off
export DAGSTER_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := True
export DVC_NO_ANALYTICS := 1
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: help install demo test test-fast lint format docs dev train automate serve mlflow lock clean audit licences sbom

help:
	@echo "make demo    install, generate images, run the pipeline, start the service and send a request"
	@echo "make test    install and run all tests; make test-fast: those without training, servers and browsers"
	@echo "make lint    formatting, lint, types and the words of all that people read"
	@echo "make docs    the documentation site, into site/html"
	@echo "make dev     the Dagster UI with everything in it"
	@echo "make train   TASK=$(TASK): Materialize all of a task, without the UI"
	@echo "make automate TASK=$(TASK): retrain on new data by itself; DO=off, DO=status"
	@echo "make serve   all released tasks on 127.0.0.1:3000; TASK=$(TASK): that one alone"
	@echo "make mlflow  the MLflow UI of the registry that is set, on 127.0.0.1:5000"
	@echo "make audit | licences | sbom    known vulnerabilities, licences, CycloneDX bills of materials"

# an operator's own dagster.yaml is never overwritten
install: .venv/installed
	@$(BIN)/python -m derm_assets.instance

# the stamp is remade when the lock changes; pip checks every hash
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	$(PRIVATE) $(BIN)/python -m derm_assets.demo

# a process of one thread for each core, up to 3 GB each; a module stays in one process, the long ones begin
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: install
	$(TESTS)

test-fast: install
	$(TESTS) -m "not slow"

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/python -m documents.prose

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# every warning is an error; LINKS=1 also asks the addresses outside the site, which needs the network
docs: install
	$(BIN)/python -m documents site $(if $(LINKS),--external)

dev: install
	$(PRIVATE) $(BIN)/python -m derm_assets.webserver --host 127.0.0.1 --port 3001

# the name is checked first: Dagster takes a group that does not exist for "everything"
train: install
	@$(BIN)/python -m derm_assets.launching $(TASK)

automate: install
	@$(PRIVATE) $(BIN)/python -m derm_assets.automate $(TASK) $(DO)

# without a TASK from the command line or the environment: all of them
serve: install
	$(PRIVATE) $(BIN)/python -m serving $(if $(filter file,$(origin TASK)),,$(TASK))

mlflow: install
	$(PRIVATE) $(BIN)/python -m derm_assets.mlflow_ui --port 5000

# rewrites the lock from pyproject.toml; it names versions and hashes, never an address
lock:
	uv pip compile --universal --python-version 3.11 --prerelease if-necessary-or-explicit --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --extra dev --quiet pyproject.toml -o requirements.lock

# the tools live in an environment of their own (.audit): they must not change a version of ours
.audit/installed: pyproject.toml
	test -x .audit/bin/python || $(PYTHON) -m venv .audit
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["audit"], sep="\n")' > .audit/requirements.txt
	.audit/bin/python -m pip install --quiet --disable-pip-version-check -r .audit/requirements.txt
	@touch $@

# asks the advisory service of PyPI; --strict, so that a package nobody could be asked about is no silent success
audit: install .audit/installed
	.audit/bin/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict --progress-spinner off \
		|| { code=$$?; echo "make audit: a vulnerability was found, or the advisory service could not be asked about every package (see above)" >&2; exit $$code; }

# the table of everything installed; fails where the serving image holds a licence that is unknown or asks for source
licences: install .audit/installed
	.audit/bin/pip-licenses --python $(BIN)/python --order license --format markdown
	$(BIN)/python -m serving.licences

sbom: install .audit/installed
	@mkdir -p sbom
	.audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --no-validate --of JSON -o sbom/.new $(BIN)/python
	@mv sbom/.new sbom/environment.json
	$(BIN)/python -m serving.licences --pins | .audit/bin/cyclonedx-py requirements --output-reproducible --of JSON -o sbom/.new -
	@mv sbom/.new sbom/serving_image.json
	@echo "sbom/environment.json  sbom/serving_image.json"

clean:
	rm -rf .demo
