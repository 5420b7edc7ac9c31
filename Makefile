# The system's Python where it can make environments: Debian builds it with profile guided optimisation, and it
# answers about twice as many requests as one built without (measured, see DESIGN.md).
PYTHON ?= $(shell /usr/bin/python3.11 -c 'import ensurepip' 2>/dev/null && echo /usr/bin/python3.11 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check

.PHONY: env models serve check test lint bench fuzz clean

env: $(VENV)/.ready

# torch comes apart from the lock: which build of it there is differs by machine.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing the environment (a few minutes the first time)"
	$(PIP) install --quiet --progress-bar on --require-hashes -r requirements.lock
	$(PIP) install --quiet --progress-bar on torch==2.13.0
	$(PIP) install --quiet --no-deps --editable .
	touch $@

models: env
	$(BIN)/headrace models build

serve: models
	$(BIN)/headrace serve

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What a change is tried with: no Ray, no built models, and no test that takes seconds.
check: lint
	$(BIN)/pytest -q -m "not ray and not zoo and not slow"

test: lint models
	$(BIN)/pytest

bench: models
	$(BIN)/python -m loadtests.yardstick
	$(BIN)/python -m loadtests.bench

FUZZ_S := 30
fuzz: env
	$(PIP) install --quiet "atheris>=3,<4"
	set -e; for target in http_head json_body binary_tensors multipart_form photo other_endpoints; do \
	  $(BIN)/python -m tests.fuzz.$$target -max_total_time=$(FUZZ_S); done

clean:
	rm -rf $(VENV) models/repository reports .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
