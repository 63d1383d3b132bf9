.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STUBS := clients/python

$(VENV)/ready: requirements.lock pyproject.toml clients/python/pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "This needs Python 3.11 or newer; python3 is $$(python3 -V)."; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "This python3 has no venv or pip: install the package that adds them (Debian: apt-get install python3-venv)."; exit 1; }
	@echo "Setting up $(VENV): once, a minute or two, some 150 MB to download."
	@python3 -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable clients/python --editable .
	@touch $@

.PHONY: run
run: $(VENV)/ready ## Start everything: register, adapters, sandbox suppliers, 18 test citizens (KRR_KEEP=1 keeps the data)
	@exec $(BIN)/krr up

.PHONY: test
test: $(VENV)/ready ## Run the tests (T=path or PYTEST_ARGS=... to choose)
	$(BIN)/pytest $(or $(T),tests) $(PYTEST_ARGS)

.PHONY: test-long
test-long: $(VENV)/ready ## Run the tests that have a full size in it, and print their figures (T=path to choose)
	$(BIN)/pytest $(or $(T),tests) -m full_size_figures --full-size -n 0 -rP $(PYTEST_ARGS)

.PHONY: bench
bench: $(VENV)/ready ## Measure the speed beside what is possible (PERSONS=100000 ROUNDS=3 PATHS=unary,... GROWTH=1 PROFILE=1)
	@exec $(BIN)/python -m tests.bench --persons $(or $(PERSONS),100000) --rounds $(or $(ROUNDS),3) \
	  $(if $(PATHS),--paths $(PATHS)) $(if $(GROWTH),--growth $(filter-out 1,$(GROWTH))) $(if $(PROFILE),--profile)

.PHONY: check
check: $(VENV)/ready ## Lint, types, protos, generated code: everything but the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos
	@base=$$(git merge-base HEAD origin/main 2>/dev/null); \
	if [ -z "$$base" ] || [ "$$base" = "$$(git rev-parse HEAD)" ]; then base=$$(git rev-parse --verify --quiet HEAD^); fi; \
	if [ -n "$$base" ]; then echo "contract compared with $$base"; $(BIN)/buf breaking --against ".git#ref=$$base"; \
	else echo "no earlier commit to compare the contract with"; fi
	$(MAKE) --no-print-directory protos-check
	$(BIN)/pytest tests/test_imports.py tests/store/test_migrations.py

.PHONY: protos
protos: $(VENV)/ready ## Generate the Python stubs from protos/
	@rm -f $(STUBS)/krr/v1/*_pb2*
	$(BIN)/python -m grpc_tools.protoc --proto_path=protos \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=$(STUBS) --grpc_python_out=$(STUBS) --mypy_out=quiet:$(STUBS) --mypy_grpc_out=quiet:$(STUBS) \
	  protos/krr/v1/*.proto
	@for stub in $(STUBS)/krr/v1/*_pb2_grpc.py; do grep -q 'def add_.*Servicer_to_server' $$stub || rm $$stub $${stub}i; done

.PHONY: protos-check
protos-check: $(VENV)/ready
	@before=$$(cat $(STUBS)/krr/v1/*_pb2* | sha256sum); $(MAKE) --no-print-directory protos >/dev/null; \
	[ "$$before" = "$$(cat $(STUBS)/krr/v1/*_pb2* | sha256sum)" ] || { echo "The stubs in $(STUBS) are not what protos/ generates; they were made anew: commit them."; exit 1; }

.PHONY: migrate
migrate: $(VENV)/ready ## Bring the database at KRR_DATABASE_URL to the newest schema
	$(BIN)/python -m server migrate

.PHONY: lock
lock: $(VENV)/ready ## Write requirements.lock anew from the two pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-package krr-client \
	  --no-header --no-annotate --upgrade --group dev pyproject.toml --output-file requirements.lock

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 12
