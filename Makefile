# Local work with retune. Needs make, and Python 3.11 or uv; `make setup` brings the rest.

EXPERIMENT ?= diabetes
RETUNE_HOME ?= $(CURDIR)/.retune
export RETUNE_HOME

# Each target runs in the environment that local/setup.sh wrote.
IN_ENV = . "$$RETUNE_HOME/env" &&
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-keras demo talkingdata blobs ui check schema test test-unit chaos lint format bench \
	bench-long bench-quality bench-peers bench-search soak lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

setup: ## bring what retune needs onto this machine: .venv here, all else in $RETUNE_HOME (.retune)
	@local/setup.sh

setup-dev: ## the same, and the tools of tests and linters
	@local/setup.sh --dev

setup-keras: ## the same, and TensorFlow for the trainer keras: 1.5 GB
	@local/setup.sh --keras

demo: setup ## run one experiment end to end (EXPERIMENT=diabetes)
	@$(IN_ENV) exec python local/demo.py "$(EXPERIMENT)"

talkingdata: setup ## make up the tables of TalkingData in $RETUNE_HOME/data/talkingdata (ROWS=2000 training devices)
	@$(IN_ENV) exec python local/talkingdata.py --rows $(or $(ROWS),2000)

blobs: setup-dev ## start an Azure Blob server on this machine with those tables, for the experiment talkingdata
	@$(IN_ENV) exec python local/blobs.py

ui: setup ## open Airflow and MLflow on this machine; Ctrl-C ends both
	@$(IN_ENV) exec python local/ui.py

check: setup ## check the experiment files
	@$(IN_ENV) exec python -m retune.check

schema: setup ## write docs/experiment.schema.json anew
	@$(IN_ENV) exec python -m retune.schema

# Three workers for two cores: many tests wait, for Airflow to look around or a server that is away.
test: setup-dev ## run all tests
	@$(IN_ENV) pytest -n 3 --dist loadfile --no-loadscope-reorder

test-unit: setup-dev ## run the tests that need no Spark, in seconds
	@$(IN_ENV) pytest -n 2 --dist loadfile tests/unit

chaos: setup-dev ## kill a search 20 times and see that no trial is lost or doubled, in about 10 minutes (PARALLEL=1)
	@$(IN_ENV) RETUNE_CHAOS_KILLS=20 RETUNE_CHAOS_PARALLEL=$(or $(PARALLEL),1) pytest tests/jobs/test_chaos.py --log-cli-level=INFO --timeout=3600

lint: setup-dev ## check style, types and who imports whom
	@$(IN_ENV) ruff check . && ruff format --check . && mypy && lint-imports

format: setup-dev ## put the code into the project's format
	@$(IN_ENV) ruff check --fix . && ruff format .

bench: bench-peers ## measure, in about 40 minutes (ONLY="guide tracked": some figures; OPTIONS="--rounds 1 --no-write")
	@$(IN_ENV) python bench/run.py $(if $(ONLY),--only $(ONLY)) $(OPTIONS)

bench-long: bench-peers ## measure what takes long: a million rows, SparkTrials, GridSearchCV, TalkingData at its full shape
	@$(IN_ENV) python bench/run.py --long

bench-quality: bench-peers ## compare what retune, Optuna and FLAML find in a minute, in an hour (OPTIONS="--seeds 1")
	@$(IN_ENV) python bench/quality.py $(OPTIONS)

# What retune is held against and does not depend on; of what they share, in retune's own versions.
bench-peers: setup-dev .venv-bench/.installed

.venv-bench/.installed: bench/requirements.txt requirements.lock
	@rm -rf .venv-bench
	@.venv/bin/uv venv --quiet --python .venv/bin/python .venv-bench
	@.venv/bin/uv pip install --quiet --python .venv-bench/bin/python --constraints requirements.lock -r $<
	@touch $@

bench-search: setup-dev ## compare what Hyperopt's tpe finds with what random search finds, in about 6 minutes
	@$(IN_ENV) python bench/tpe_vs_rand.py

soak: setup-dev ## fit 200 models in one Spark application and watch its time and memory (PARALLEL=1)
	@$(IN_ENV) python bench/soak.py --parallel $(or $(PARALLEL),1)

lock: setup ## resolve the requirements anew (OPTIONS=--upgrade for newer versions)
	@$(COMPILE) $(OPTIONS) requirements.txt --output-file requirements.lock
	@$(COMPILE) $(OPTIONS) requirements-dev.txt --constraints requirements.lock --output-file requirements-dev.lock
	@$(COMPILE) $(OPTIONS) requirements-keras.txt --constraints requirements.lock --output-file requirements-keras.lock

clean: ## remove .venv and caches; results in $RETUNE_HOME stay
	@rm -rf .venv .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
