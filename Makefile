# Everything a reader of this repository may want to run. Each target sets up what it needs; repeated, it is quick.
# ARGS is passed on: make run ARGS="--port 9000".

BIN := .venv/bin
ARGS :=

.DEFAULT_GOAL := help
.PHONY: help setup demo run test soak check docs bench bench-quick lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup:
	@sh scripts/setup.sh

demo: setup ## Kill a server half-way through a stream, and see that nothing is lost or repeated
	@$(BIN)/python examples/demo.py $(ARGS)

run: setup ## Serve on http://127.0.0.1:8000, with the store eric_sse.db in this folder
	@$(BIN)/eric-sse serve $(ARGS)

test: check ## Everything that must pass: check, then all tests but the long ones
	@sh scripts/test-deps.sh
	$(BIN)/pytest -n auto --dist loadfile $(ARGS)

soak: setup ## The long tests
	@sh scripts/test-deps.sh
	$(BIN)/pytest -m soak --timeout=7200 $(ARGS)

check: setup docs ## Lint, format, types, layers, and the documentation without a warning
	@sh scripts/test-deps.sh node npm
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo --no-cache

docs: setup ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W -n --keep-going -q docs docs/_build/html

bench: setup ## Measure everything beside nchan and other peers, about an hour; ARGS="--help" tells how to select
	@sh scripts/test-deps.sh initdb redis-server
	@sh scripts/bench-deps.sh
	@$(BIN)/python -m benchmarks.peers $(ARGS)

bench-quick: setup ## The core of it in two minutes, with bounds that hold on a noisy machine, too
	@sh scripts/bench-deps.sh none
	@$(BIN)/python -m benchmarks.peers.quick

lock: setup ## Resolve the dependencies anew into requirements.lock
	@sh scripts/lock.sh $(ARGS)
