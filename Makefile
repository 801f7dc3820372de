# make run: serve on an embedded PostgreSQL.   make test: every test.   make check: the linters.
# make storm: long races, servers and services killed under 2,000 writes each, every property with
# ten times the examples; make test has a short form of all of it.
# Tests write into memory where /dev/shm has room, and into TMPDIR where that is set.
# make bench: what it reaches, next to what the machine can do; TEXTS=file.txt or file.jsonl.

PYTHON ?= python3
WORKERS := --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The only place that has torch for Linux without several gigabytes of CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# pgvector, unless the environment or .env names another.
export MEMORY_DRIVER ?= $(or $(shell sed -n 's/^MEMORY_DRIVER=//p' .env 2>/dev/null),pgvector)

.PHONY: run test storm bench check format openapi settings-guide clean

run: .venv/.embedded
	@exec $(BIN)/python -m app serve

test: .venv/.dev
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

storm: .venv/.dev
	TEST_STORM=1 $(BIN)/python -m pytest tests/faults tests/wrappers tests/conformance $(WORKERS) \
		--durations=20 --timeout 3600 $(ARGS)

bench: .venv/.bench
	@$(BIN)/python -m benchmarks $(if $(TEXTS),--texts $(TEXTS))

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: .venv/.dev
	$(BIN)/python -m app.openapi

settings-guide: .venv/.dev
	$(BIN)/python -m app.settings_guide

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@echo "Making .venv (over a gigabyte; it takes minutes the first time)"
	@$(PYTHON) -m venv .venv
	@$(PIP) --no-deps torch 2>/dev/null || $(PIP) --no-deps --index-url $(TORCH_INDEX) torch
	@touch $@

.venv/.embedded: .venv/.torch pyproject.toml
	@$(PIP) --editable '.[automem,cache,embedded,pinecone,redis,weaviate]'
	@touch $@

.venv/.dev: .venv/.torch pyproject.toml
	@$(PIP) --editable '.[dev]'
	@touch $@ .venv/.embedded

.venv/.bench: .venv/.torch pyproject.toml
	@$(PIP) --editable '.[automem,cache,bench,pinecone,redis,weaviate]'
	@touch $@ .venv/.embedded
