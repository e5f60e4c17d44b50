# Two commands do everything: `make demo` and `make test`. The others are for working on the project.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export LABELOPS_HOME ?= $(CURDIR)/.labelops
# Where it is set, each of the many processes of a run compiles Airflow and the tests anew.
unexport PYTHONDONTWRITEBYTECODE
# One worker more than there are processors, up to four: the tests that kill Airflow mostly wait, each worker takes a
# gigabyte, and the longest file bounds a run from there on. ARGS comes later and wins: make test ARGS="-n0 -k ledger".
WORKERS = $(shell $(PYTHON) -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')
PYTEST  = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: docs demo up down test memory validation lint bench readers clients faults fuzz clean lock neighbours install help

help:
	@echo "make demo   run the five use cases end to end on embedded defaults, then stop"
	@echo "make up     the same, but leave everything running; make down stops it"
	@echo "make test   run all tests; make lint, make bench, make readers, make clients, make clean, make lock"
	@echo "make faults SEEDS=200, make fuzz SECONDS=120   seeded faults over the DAGs; seeded inputs for every reader"
	@echo "make neighbours   resolve requirements.lock together with what platforms run beside it"
	@echo "make memory       run the tests that measure memory or stream a great many rows, which make test leaves out"
	@echo "make validation   run the tests that prove a promise or a requirement, and write docs/validation.md"

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, and %s is %d.%d: run make PYTHON=/path/to/python3.12" % ((sys.executable,) + v))'
	@test -x $(BIN)/python || $(PYTHON) tools/make_venv.py $(VENV)
	@echo "Installing the locked requirements into $(VENV) (a few minutes the first time) …"
	@$(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements.lock -r requirements-dev.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	@$(BIN)/python -m include.sandbox demo

up: install
	@$(BIN)/python -m include.sandbox up

down: install
	@$(BIN)/python -m include.sandbox down

test: install
	@$(PYTEST) $(ARGS)

memory: install
	@$(BIN)/python -m pytest -m memory $(ARGS)

validation: install
	@$(PYTEST) -m proves --validation=docs/validation.md $(ARGS)

docs: install
	@$(BIN)/python tools/dag_tables.py

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@MYPYPATH=plugins $(BIN)/mypy

bench: install
	@$(BIN)/python -m tests.bench $(ARGS)

readers: install
	@test -x $(LABELOPS_HOME)/readers/bin/python || $(PYTHON) tools/make_venv.py $(LABELOPS_HOME)/readers
	@echo "Installing TensorFlow and PyTorch into $(LABELOPS_HOME)/readers (some gigabytes the first time) …"
	@$(LABELOPS_HOME)/readers/bin/python -m pip install -q tensorflow-cpu torch numpy
	@rm -rf $(LABELOPS_HOME)/readers/exports
	@$(BIN)/python -m tests.exports.readers write $(LABELOPS_HOME)/readers/exports
	@$(LABELOPS_HOME)/readers/bin/python tests/exports/readers.py read $(LABELOPS_HOME)/readers/exports

clients: install
	@test -x $(LABELOPS_HOME)/clients/bin/python || $(PYTHON) tools/make_venv.py $(LABELOPS_HOME)/clients
	@echo "Installing clients of Confluence and Jira into $(LABELOPS_HOME)/clients …"
	@$(LABELOPS_HOME)/clients/bin/python -m pip install -q jira sphinxcontrib-confluencebuilder langchain-community "atlassian-python-api<5" beautifulsoup4 lxml
	@NO_PROXY=127.0.0.1 $(LABELOPS_HOME)/clients/bin/python tests/contracts/clients.py

faults: install
	@$(BIN)/python -m tests.faults --seeds $(or $(SEEDS),200) --jobs $(or $(JOBS),2) $(ARGS)

fuzz: install
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),120) $(ARGS)

# No address of an index goes into the files: each machine has its own.
COMPILE = uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links

lock:
	@command -v uv >/dev/null || { echo "uv is needed to lock: pip install uv"; exit 1; }
	$(COMPILE) requirements.txt -o requirements.lock
	$(COMPILE) -c requirements.lock requirements-dev.txt -o requirements-dev.lock

neighbours: install
	@for version in 3.11 3.12 3.13; do \
	  found=$$($(BIN)/uv pip compile -q --no-header --no-annotate --python-version $$version \
	    -c requirements.lock requirements.txt requirements-neighbours.txt) \
	    || { echo "Python $$version: requirements.lock and requirements-neighbours.txt do not fit together"; exit 1; }; \
	  echo "Python $$version: requirements.lock and its neighbours fit together, $$(echo "$$found" | wc -l) packages"; \
	done

clean: 
	@test ! -x $(BIN)/python || $(BIN)/python -m include.sandbox down --quiet || true
	rm -rf $(VENV) .labelops .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
