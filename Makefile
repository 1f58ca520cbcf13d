# Mainspring: `make help` lists what can be done. Every target makes the environment ready first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
# Left to the shell: make would look for it before set-up has installed it.
BUF := proto/node_modules/@bufbuild/buf-*/bin/buf
LINTED := controlplane agent clients/python proto tests loadtest examples docs/model
PRESENT = $(wildcard $(LINTED))
SEED ?= 1
MINUTES ?= 10
N ?= 300
SECONDS ?= 60

# What is written by programs, as git paths; `regenerate` below lists the programs.
GENERATED := 'clients/python/mainspring/*_pb2*.py*' docs/states.md docs/cli.md \
	'clients/python/mainspring/definition/*.schema.json'
# Fingerprints of all generated files that git knows or would add.
FINGERPRINTS = git ls-files -co --exclude-standard -- $(GENERATED) | sort -u | xargs -r sha256sum

.PHONY: help setup demo up test check generated regenerate proto lint types tidy sim sim-many wf bench clean
.PHONY: campaign bench-survival mutants model

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv and install everything (no-op when nothing changed)
	@.ci/setup

demo: setup ## Run a Montage-shaped DAG on a fresh cluster, kill two of its processes, count
	@$(PY) -P examples/demo.py

up: setup ## Start a local cluster and keep it up until Ctrl-C (ARGS="--nodes 2 …")
	@$(PY) -P -m mainspring.cli.main up $(ARGS)

test: setup ## Run every group of tests; the last line is their sum
	@.ci/setup campaign
	@$(PY) -m tests.groups $(GROUPS)

check: lint types generated tidy ## Run the fast checks of every change (under a minute)

lint: setup ## Style, format, layers between packages, contracts
	@.ci/setup buf
	@.venv/bin/ruff check --quiet $(PRESENT)
	@.venv/bin/ruff format --quiet --check $(PRESENT)
	@$(BUF) lint
	@.venv/bin/lint-imports --no-logo

types: setup ## Check the types, strictly
	@.venv/bin/mypy

tidy: setup ## Check the budgets and the rules of the house
	@.venv/bin/pytest tests/tidy

# One line for each such program.
regenerate: setup ## Run every program that writes files into the tree
	@$(PY) proto/generate.py
	@$(PY) -P -m mainspring.definition.schema
	@$(PY) -P -m mainspring.cli.reference docs/cli.md
	@$(PY) -P docs/states.py

generated: setup ## Write every generated file; fail if one was stale or is not in git
	@before=$$($(FINGERPRINTS)); $(MAKE) regenerate; after=$$($(FINGERPRINTS)); \
	diff <(echo "$$before") <(echo "$$after") | sed -n 's/^> [0-9a-f]* */stale: /p' >&2 \
		|| { echo 'generated files were stale and are now written anew: commit them' >&2; exit 1; }; \
	new=$$(git ls-files -o --exclude-standard -- $(GENERATED)); \
	[ -z "$$new" ] || { printf 'generated, but not in git:\n%s\n' "$$new" >&2; exit 1; }

proto: setup ## Compile the contracts to Python
	@$(PY) proto/generate.py

sim: setup ## Run one simulated cluster (SEED=n; LOG=1 prints its history, SECONDS=60 its length)
	@$(PY) -m tests.sim --seed $(SEED) --seconds $(SECONDS) $(if $(LOG),--log)

sim-many: setup ## Run many simulated clusters on all cores and add them up (N=300, first SEED=1)
	@$(PY) -m tests.sim --seed $(SEED) --count $(N) --seconds $(SECONDS) $(if $(JSON),--json $(JSON))

model: setup ## Search the protocol's model with many faults; take out each rule in turn
	@$(PY) -m docs.model --large --all

mutants: setup ## Show mutants to the checkers; none may survive (ONLY=name MUTANT_SEED=1 MUTANT_COUNT=24)
	@$(PY) -m tests.mutants $(if $(ONLY),--only '$(ONLY)') \
		$(if $(MUTANT_SEED),--seed $(MUTANT_SEED)) $(if $(MUTANT_COUNT),--count $(MUTANT_COUNT))

campaign: setup ## Break a cluster of real processes under load (MINUTES=10 SEED=n OUT=folder)
	@.ci/setup campaign
	@$(PY) -m tests.campaign --minutes $(MINUTES) \
		$(if $(filter-out file,$(origin SEED)),--seed $(SEED)) $(if $(OUT),--out $(OUT))

wf: setup ## Import and run all the scientific workflows of the data set
	@$(PY) -m tests.system.wf

bench: setup ## Measure start, latency and throughput on this machine
	@$(PY) -m loadtest.bench

bench-survival: setup ## Measure failover, takeover and re-adoption by killing nodes and agents
	@$(PY) -m loadtest.survival

clean: ## Remove the environment, caches and local data
	@rm -rf .venv proto/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis .coverage .coverage.* .mainspring *.egg-info clients/python/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
