# Every target sets up .venv by itself and is quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PROTOS := .venv-protos

.PHONY: quickstart test unit lint types contracts docs protos protos-check check clean

quickstart: $(VENV)/.host  ## train a supernet, search it, measure, ship a front
	$(BIN)/boardfront search examples/quickstart.toml

test: $(VENV)/.dev  ## all tests, on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

unit: $(VENV)/.dev  ## what takes no longer than 5 s each, on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.docs  ## the documentation as a site in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

protos: $(PROTOS)/.installed  ## generate the code of agent.proto
	$(PROTOS)/bin/python protos/generate.py

protos-check: $(PROTOS)/.installed
	$(PROTOS)/bin/python protos/generate.py --check

check: lint types contracts protos-check docs test  ## what CI runs

clean:
	rm -rf $(VENV) $(PROTOS) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.host: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[host,onnxruntime,report]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[host,onnxruntime,tvm,dev]'
	@touch $@ $(VENV)/.host

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) --editable '.[host,onnxruntime,tvm,dev,docs]'
	@touch $@

# The generator stays old: its code runs on its own protobuf and grpcio and on all newer ones.
$(PROTOS)/.installed:
	$(PYTHON) -m venv $(PROTOS)
	$(PROTOS)/bin/python -m pip --disable-pip-version-check install --quiet \
		'grpcio-tools==1.66.2' 'mypy-protobuf==3.6.0' 'setuptools<80'
	@touch $@
