# Needs Python 3.11 to 3.14 with venv, make, bash and the package registries; everything else comes into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
ARGS ?=

space := $(subst ,, )
SOURCES := $(filter-out libs/protos/src,$(wildcard libs/*/src services/*/src))
PYTHON_FILES = $$(find libs services tests tools -name '*.py' -not -path 'libs/protos/src/*' -not -path '*/.*')

.PHONY: help setup run up demo test test-faults sim sim-planted crash-points check fmt proto lock bench bench-peers bench-growth bench-telemetry bench-webhooks soak chaos parked fuzz clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install everything into .venv; does nothing when nothing changed
	@tools/setup.sh

run: setup ## Start the engine, do the main job before your eyes, stay until Ctrl-C
	@exec $(BIN)/wfe up --job $(ARGS)

up: setup ## Start the engine, stay until Ctrl-C
	@exec $(BIN)/wfe up $(ARGS)

demo: setup ## Do the main job without questions on an engine of its own
	@exec $(BIN)/wfe demo

# What kills, drains, upgrades, simulates or builds whole engines takes its time.
FAULTS := tests/chaos tests/crash tests/sim tests/fuzz/test_rest.py \
	$(addprefix tests/e2e/,test_rolling.py test_cluster.py test_restore.py test_upgrade.py test_next_schema.py) \
	deploy/tests/test_image_builds.py

# Much of the tests is waiting, so two processes share the files; a few named tests are sooner done by one.
test: setup ## Run the tests, but for those of test-faults (ARGS="-k name" for some)
	@exec $(BIN)/pytest $(if $(ARGS),,-n 2 --dist loadfile) $(FAULTS:%=--ignore=%) $(ARGS)

test-faults: setup ## Run the tests that kill, drain, upgrade, simulate or build whole engines
	@exec $(BIN)/pytest $(FAULTS) $(ARGS)

sim: setup ## Simulate what can go wrong for SIM_SECONDS (60) from SIM_SEED (ARGS="--seed 7 --examples 1" for one)
	@exec $(BIN)/python -m tests.sim $(ARGS)

sim-planted: setup ## Plant known bugs one by one and see that the simulation finds each
	@exec $(BIN)/python -m tests.sim --planted $(ARGS)

crash-points: setup ## Fail and kill at every await of every use case (ARGS="--case start" for one)
	@exec $(BIN)/python -m tests.crash $(ARGS)

check: setup ## Format, lint, types, import rules, protos, file sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	MYPYPATH=$(subst $(space),:,$(SOURCES)) $(BIN)/mypy $(SOURCES) tools/bench tools/chaos tools/fuzz
	$(BIN)/lint-imports
	tools/check_protos.sh
	@long=$$(wc -l $(PYTHON_FILES) | awk '$$1 > 400 && $$2 != "total"'); \
	  [ -z "$$long" ] || { echo "longer than 400 lines:"; echo "$$long"; exit 1; }

fmt: setup ## Format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: setup ## Generate libs/protos from protos
	tools/protos.sh

lock: setup ## Pin every dependency anew in requirements.lock
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python tools/lock.py

bench: setup ## Measure speed and size (ARGS="--only W1,W3 --reps 1" for less)
	@exec $(BIN)/python -m tools.bench $(ARGS)

bench-peers: setup ## Measure this engine and its peers in turn, and print the ratios (ARGS="--reps 1")
	@exec $(BIN)/python -m tools.bench.peers $(ARGS)

bench-growth: setup ## Measure with a million finished and a million parked runs in the store
	@exec $(BIN)/python -m tools.bench.growth $(ARGS)

soak: setup ## Half an hour of full load: does anything grow, what do reads take (ARGS="--minutes 5")
	@exec $(BIN)/python -m tools.bench.soak $(ARGS)

bench-telemetry: setup ## Measure what metrics, traces and logs cost (ARGS="--reps 3 --ratio 1" for every trace)
	@exec $(BIN)/python -m tools.bench.telemetry $(ARGS)

chaos: setup ## Kill parts under load for CHAOS_MINUTES (10), by CHAOS_SEED, and look for anything lost
	@exec $(BIN)/python -m tools.chaos

parked: setup ## Measure a sweep beside a million parked runs
	@exec $(BIN)/python -m tools.chaos.parked

bench-webhooks: setup ## Measure deliveries of webhooks (ARGS="--deliveries 5000" for less)
	@exec $(BIN)/python -m tools.bench.webhooks $(ARGS)

fuzz: setup ## Send hostile input to everything that reads any, for FUZZ_SECONDS (60) each
	@exec $(BIN)/python -m tools.fuzz

clean: ## Remove .venv and caches; data in .wfe stays
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: images images-check k8s-tools

images: ## Build the images, where a container engine is (ENGINE=podman for another)
	@for target in scheduler approvals executor gateway tools; do \
	  $${ENGINE:-docker} build -f deploy/images/Dockerfile --target $$target -t workflow-engine/$$target:$${TAG:-0.1.0} . || exit 1; done

images-check: setup ## Run the images' build steps in clean folders, without a container engine; takes minutes
	@exec $(BIN)/pytest deploy/tests/test_images.py deploy/tests/test_image_builds.py $(ARGS)

k8s-tools: setup ## Fetch kubectl and promtool into build/, for the tests of what is deployed; they do it by themselves, too
	@tools/kubectl.sh
	@tools/promtool.sh
