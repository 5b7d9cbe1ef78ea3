# `make demo` and `make test` do everything on a fresh machine; they need Python 3.11 to 3.13 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DASHBOARD := backend/dashboard
ASSETS := $(DASHBOARD)/static/vendor/.installed
PEERS_INSTALLED := $(VENV)/.installed-peers
UV := $(BIN)/python -m uv
# Where this is set, every start compiles torch's thousands of modules again, for many seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docs install lock audit label-studio-ml clean

## The whole loop on a real Label Studio. ANNOTATE=300 plays the annotator, too.
demo: install
	@exec $(BIN)/active-learning demo $(if $(ANNOTATE),--annotate $(ANNOTATE))

# Tests that start servers and workers of their own, which would starve one another where cores are few.
WITH_SERVERS := tests/demo tests/doctor tests/engine/test_ray.py tests/end_to_end
# First, so that none of them runs on alone at the end. (A process that runs a file of one test has a second one waiting:
# here the short one.)
LONGEST := $(addprefix tests/end_to_end/test_,soak.py recovery.py slow_clients.py vision_tasks.py)
AT_ONCE ?= 1
# Tests that use no store, or name the one that they use: another would change nothing.
OF_ANY_STORE := $(addprefix tests/,docs engine labelstudio learners peers simulation strategies) \
  $(addprefix tests/security/test_,fuzzed_parsers.py hostile_images.py no_pickle.py secrets_of_commands.py) \
  $(addprefix tests/loop/test_,events_together.py label_errors.py random_order.py) \
  $(addprefix tests/store/test_,artifacts.py embeddings.py together.py) tests/test_deployment_files.py tests/test_logs.py
SERVERS_OF_ANY_STORE := tests/demo tests/engine/test_ray.py tests/end_to_end/test_soak.py

PYTEST := $(BIN)/python -m pytest
UNIT_TESTS := OMP_NUM_THREADS=1 $(PYTEST) --numprocesses 2 --dist loadfile $(addprefix --ignore=,$(WITH_SERVERS))
SERVER_TESTS := $(PYTEST) --numprocesses $(AT_ONCE) --dist loadfile --no-loadscope-reorder
SERVER_FILES := $(LONGEST) \
  $(filter-out $(LONGEST) tests/end_to_end,$(WITH_SERVERS) $(wildcard tests/end_to_end/test_*.py))

## Linters, types and all tests on SQLite, and on PostgreSQL with Redis all that use whichever store there is.
## TESTS=tests/strategies runs a part, on STORE=sqlite or STORE=postgresql; AT_ONCE=2 runs two files of the tests with
## servers at once.
test: lint $(PEERS_INSTALLED) $(ASSETS)
ifdef TESTS
	$(PYTEST) $(if $(STORE),--store $(STORE)) $(TESTS)
else
	$(UNIT_TESTS)
	$(UNIT_TESTS) --store postgresql $(addprefix --ignore=,$(OF_ANY_STORE))
	$(SERVER_TESTS) $(SERVER_FILES)
	$(SERVER_TESTS) --store postgresql $(filter-out $(SERVERS_OF_ANY_STORE),$(SERVER_FILES))
endif

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## The documentation as a site: docs/_build/index.html. A broken link or anchor is an error.
docs: $(INSTALLED)
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet docs docs/_build

install: $(INSTALLED) $(ASSETS)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is another. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing the pinned packages into $(VENV); the first time, some gigabytes are downloaded."
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# The scripts of the dashboard, which it serves itself: browsers load nothing from elsewhere.
$(ASSETS): $(DASHBOARD)/package-lock.json $(INSTALLED)
	@echo "Installing the scripts of the dashboard."
	@export PATH="$(CURDIR)/$(BIN):$$PATH" && cd $(DASHBOARD) && \
	  npm ci --ignore-scripts --no-audit --no-fund --silent && npm run --silent vendor && rm -rf node_modules
	@touch $@

$(PEERS_INSTALLED): requirements-peers.lock $(INSTALLED)
	@echo "Installing the selection libraries that the tests compare with."
	$(UV) pip install --quiet --python $(BIN)/python -r requirements-peers.lock
	@touch $@

## Pin what pyproject.toml asks for.
lock: $(INSTALLED)
	$(UV) pip compile --quiet --universal --python-version 3.11 --extra demo --extra label-studio-ml --extra ray --extra s3 --group test --group assets --no-header --no-annotate \
	  --no-emit-index-url --upgrade pyproject.toml -o requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --group peers --no-header --no-annotate \
	  --no-emit-index-url --upgrade -c requirements.lock -o requirements-peers.lock

## Known holes in the pinned packages; asks a database on the internet.
audit: $(INSTALLED)
	$(UV) tool run pip-audit --requirement requirements.lock --no-deps --disable-pip

## The label-studio-ml server at a known commit, for backend/model.py. Its own requirements pin another SDK.
LABEL_STUDIO_ML ?= git+https://github.com/HumanSignal/label-studio-ml-backend@d02cedf35d0e5d21f2f437c120174c62f66bf57a
label-studio-ml: $(INSTALLED)
	$(UV) pip install --python $(BIN)/python --no-deps "label-studio-ml @ $(LABEL_STUDIO_ML)"

clean:
	rm -rf $(VENV) docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
