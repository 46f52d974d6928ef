# Opportune: everything one does with it. `make` alone lists the targets.
#
# Each target makes the environment that it needs; nothing is installed by hand.
# Variables, given as `make test SEED=7`:
#   PYTHON   the interpreter to make the environment with, 3.11 or later
#   SEED     the seed of what is random: the order of the tests, the demo
#   AGAINST  the git revision whose promises to clients proto-check holds us to
#   ARGS     further arguments to the command of test, demo, bench-*, crash or load
#   SETS     the files that bench-quality goes through, label in the last column

PYTHON ?= $(shell command -v python3.11 || command -v python3)
SEED ?=
AGAINST ?= $(shell git describe --tags --abbrev=0 2>/dev/null || \
	git rev-parse --verify --quiet main 2>/dev/null)
ARGS ?=

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
say = @echo '▸'

# --- What one does ----------------------------------------------------------------

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | \
		awk -F ':.*## ' '{ printf "  make %-24s %s\n", $$1, $$2 }'

.PHONY: env
env: $(VENV)/dev.stamp  ## make the environment, all of it, and nothing else
	@echo 'Ready: . $(VENV)/bin/activate'

.PHONY: demo
demo: $(VENV)/demo.stamp  ## serve real logged customers, and show what was earned
	$(if $(SEED),SEED=$(SEED)) $(BIN)/python examples/hillstrom/demo.py $(ARGS)

.PHONY: test
test: $(VENV)/dev.stamp  ## run the tests and every example in the docs
	$(say) test
	@$(BIN)/pytest -n auto $(if $(SEED),--randomly-seed=$(SEED)) $(ARGS)

.PHONY: check
check: lint types contracts proto-check docs-check test  ## everything a change must pass
	$(say) 'all checks passed'

.PHONY: bench
bench: $(VENV)/dev.stamp  ## measure, against the floor and against others
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-policies
bench-policies: $(VENV)/dev.stamp  ## measure learners on one core, beside others: ARGS='--rounds 15'
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.policies $(ARGS)

.PHONY: bench-simulator
bench-simulator: $(VENV)/dev.stamp  ## how fast the simulator is, beside others: ARGS='values --rounds 9'
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.simulator $(ARGS)

.PHONY: bench-quality
bench-quality: $(VENV)/dev.stamp  ## what policies earn while they learn: SETS=a.csv,b.csv ARGS='--seeds 1'
	$(BIN)/python -m benchmarks.quality $(if $(SETS),--sets $(SETS) --no-worlds) $(ARGS)

.PHONY: bench-learning
bench-learning: $(VENV)/dev.stamp  ## how soon a server decides by what it is told: ARGS='--seconds 120'
	$(BIN)/python -m benchmarks.learning $(ARGS)

.PHONY: bench-refunds
bench-refunds: $(VENV)/dev.stamp  ## how far late corrections leave learners from the truth: ARGS='--learner vw'
	$(BIN)/python -m benchmarks.refunds $(ARGS)

.PHONY: load
load: $(VENV)/dev.stamp  ## put a server under load with locust
	$(BIN)/python -m benchmarks.load $(ARGS)

.PHONY: crash
crash: $(VENV)/dev.stamp  ## kill servers and learners at many random points: ARGS='--rounds 200'
	$(BIN)/python -m tests.server.crash campaign $(ARGS)

.PHONY: machine
machine: $(VENV)/dev.stamp  ## drive a server and the rules written twice side by side: ARGS='--minutes 10'
	$(BIN)/python -m tests.reference $(ARGS)

.PHONY: scenarios
scenarios: $(VENV)/dev.stamp  ## play the offer patterns of examples/scenarios: ARGS='small_steps'
	$(BIN)/python examples/scenarios/run.py $(ARGS)

.PHONY: study-coverage
study-coverage: $(VENV)/dev.stamp  ## how often intervals hold the truth, on synthetic logs
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.coverage $(ARGS)

.PHONY: study-worlds
study-worlds: $(VENV)/dev.stamp  ## what policies earn in every world, and how far estimates are off
	$(BIN)/python -m benchmarks.worlds $(ARGS)

.PHONY: study-learning-policies
study-learning-policies: $(VENV)/dev.stamp  ## how well a log tells what a policy that learns would earn
	$(BIN)/python -m benchmarks.learning_policies $(ARGS)

# --- The parts of check -----------------------------------------------------------

.PHONY: lint
lint: $(VENV)/dev.stamp  ## style, formatting and spelling
	$(say) lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell

.PHONY: types
types: $(VENV)/dev.stamp  ## check the types
	$(say) types
	@$(BIN)/mypy

.PHONY: contracts
contracts: $(VENV)/dev.stamp  ## check who imports whom
	$(say) contracts
	@$(BIN)/lint-imports --no-logo

.PHONY: coverage
coverage: $(VENV)/dev.stamp  ## run the tests, and show the branches of policies they miss
	$(say) coverage
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(BIN)/coverage run -m pytest -n auto $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

.PHONY: format
format: $(VENV)/dev.stamp  ## rewrite the code in the house's format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

# --- The contract with clients ----------------------------------------------------

PROTOS = $(shell cd proto && find opportune -name '*.proto' | sort)
SERVICES = $(filter %_service.proto,$(PROTOS))
# protoc $(1), reading from $(2) or proto; google/api comes from the environment.
protoc = $(BIN)/python -m grpc_tools.protoc -I $(or $(2),proto) \
	-I "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	--plugin=$(BIN)/protoc-gen-mypy --plugin=$(BIN)/protoc-gen-mypy_grpc $(1)
messages = --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS)
services = --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(SERVICES)
image = --include_imports --include_source_info --descriptor_set_out=$(1)

.PHONY: proto
proto: $(VENV)/dev.stamp  ## write the code generated from proto/
	@find proto/opportune -name '*_pb2*' -delete
	@$(call protoc,$(call messages,proto))
	@$(call protoc,$(call services,proto))

.PHONY: proto-check
proto-check: $(VENV)/dev.stamp  ## check that proto/ is in style, generated and keeps its promises
	$(say) proto-check
	@rm -rf build/proto && mkdir -p build/proto/fresh build/proto/promised
	@$(call protoc,$(call messages,build/proto/fresh))
	@$(call protoc,$(call services,build/proto/fresh))
	@diff -r --brief --exclude='*.proto' --exclude='__init__.py' --exclude=py.typed \
		--exclude=__pycache__ proto/opportune build/proto/fresh/opportune || \
		{ echo 'The generated code is stale: run `make proto`.'; exit 1; }
	@$(call protoc,$(call image,build/proto/api.binpb)) $(PROTOS)
	@$(BIN)/buf lint build/proto/api.binpb --config proto/buf.yaml
	@if [ -z '$(AGAINST)' ] || ! git ls-tree -r --name-only '$(AGAINST)' proto | grep '\.proto$$' >/dev/null; then \
		echo 'No earlier proto to compare with: promises to clients not checked.'; \
	else \
		git archive '$(AGAINST)' proto | tar -x -C build/proto/promised; \
		promised=$$(cd build/proto/promised/proto && find opportune -name '*.proto' | sort); \
		$(call protoc,$(call image,build/proto/promised.binpb),build/proto/promised/proto) $$promised; \
		$(BIN)/buf breaking build/proto/api.binpb --against build/proto/promised.binpb \
			--config proto/buf.yaml; \
	fi

# --- The docs ---------------------------------------------------------------------

# Pages with parts that cog writes from the code.
COGGED = $(shell grep -rl --include='*.md' '\[\[\[cog' README.md docs 2>/dev/null)
sphinx = $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d build/doctrees docs build/html

.PHONY: docs
docs: $(VENV)/dev.stamp  ## write the generated parts of the docs, and build/html
	$(if $(COGGED),$(BIN)/cog -r $(COGGED))
	$(sphinx)
	@echo 'Open build/html/index.html'

.PHONY: docs-check
docs-check: $(VENV)/dev.stamp  ## check that the docs are fresh and build without a warning
	$(say) docs-check
	@$(if $(COGGED),$(BIN)/cog --check --diff $(COGGED) || { echo 'Run `make docs`.'; exit 1; })
	@$(sphinx)

# --- The environment --------------------------------------------------------------

# Three steps, so that the demo waits only for what it runs on.
$(VENV)/pip.stamp:
	$(say) 'environment: $(VENV)'
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or later is needed.'; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq --constraint constraints.txt --upgrade pip
	@touch $@

$(VENV)/demo.stamp: $(VENV)/pip.stamp pyproject.toml constraints.txt
	$(say) 'environment: what the service and the demo run on (half a minute)'
	@$(PIP) install -qq --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(say) 'environment: what developers use (half a minute)'
	@$(PIP) install -qq --constraint constraints.txt --group dev
	@touch $@

.PHONY: lock
lock:  ## pin the newest versions that fit, in constraints.txt
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/pip install -qq --upgrade pip
	@build/lock/bin/pip install --editable '.[demo]' --group dev
	@{ grep '^#' constraints.txt; build/lock/bin/pip freeze --all --exclude-editable; } \
		> build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm -rf build/lock

.PHONY: clean
clean:  ## remove what the targets made, the environment too
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
