.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
# `--no-deps`: the lock is complete, and some packages ask for what we do not ship.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url \
	--no-emit-find-links pyproject.toml
DEMO := $(LOCK) --upgrade --extra cpu --extra envelopes --extra models --extra pdf \
	--extra build
# What an image has is what the tests had.
IMAGE := $(LOCK) --constraint requirements/dev.lock --extra gcs --extra s3

PIXELS := functions/swap/engine/*,functions/swap/media/*

.PHONY: help
help: ## show what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Guise needs Python 3.11 or newer")'
	@$(PYTHON) -m venv .venv

.venv/.setup: requirements/demo.lock pyproject.toml | .venv/bin/python
	@echo 'installing the pinned packages into .venv (once)'
	@$(INSTALL) --require-hashes -r requirements/demo.lock
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

.venv/.setup-dev: requirements/dev.lock .venv/.setup
	@echo 'installing the pinned development tools into .venv (once)'
	@$(INSTALL) --require-hashes -r requirements/dev.lock
	@touch $@

.PHONY: setup
setup: .venv/.setup ## install everything pinned, into .venv

.PHONY: demo
demo: .venv/.setup ## swap a face through the real functions, from nothing
	@$(BIN)/guise demo

.PHONY: test
test: .venv/.setup-dev ## run every test, with branch coverage
	@$(BIN)/guise models pull lite
	@$(BIN)/python -m pytest -q --cov=functions --cov=models
	@$(BIN)/coverage report --format=total --omit='$(PIXELS)' --fail-under=95 >/dev/null \
		|| { echo 'branch coverage outside engine and media is under 95 %'; exit 1; }
	@$(BIN)/coverage report --format=total --include='$(PIXELS)' --fail-under=85 >/dev/null \
		|| { echo 'branch coverage inside engine and media is under 85 %'; exit 1; }

.PHONY: check
check: .venv/.setup-dev ## lint, types and floors
	@failed=; for tool in 'ruff check .' 'ruff format --check .' mypy 'lint-imports --no-cache'; \
		do $(BIN)/$$tool || failed="$$failed; $$tool"; done; \
		[ -z "$$failed" ] || { echo "failed$$failed"; exit 1; }

.PHONY: bench
bench: .venv/.setup-dev ## run every benchmark, one JSON line a figure
	@for each in benchmarks/[a-z]*.py; do $(BIN)/python $$each || exit 1; done

.PHONY: crowd
crowd: .venv/.setup-dev ## upload N=2000 requests at once; none may be lost
	@$(BIN)/python benchmarks/uploads_at_once.py $(or $(N),2000)

.PHONY: crash
crash: .venv/.setup-dev ## kill -9 a working stack N=500 times, and count what is left
	@$(BIN)/guise models pull lite
	@$(BIN)/python -m tests.crash.driver --kills $(or $(N),500) $(if $(SEED),--seed $(SEED))

.PHONY: fuzz
fuzz: .venv/.setup-dev ## give every parser N=1000000 inputs; nothing may fall over
	@$(BIN)/python -m tests.fuzz.run --inputs $(or $(N),1000000) $(if $(SEED),--seed $(SEED))

.PHONY: manifests
manifests: .venv/.setup-dev ## render knative/ in every overlay, and check it strictly
	@$(BIN)/python -m tools.manifests

# buildah, or docker; PACK is a prepared pack for the workers, BASE and TOOLS are images.
BUILD ?= $(shell command -v buildah || command -v docker)
TARGETS ?= door worker-cpu worker-gpu audit billing
VERSION := 0.1.0
REVISION ?= $(shell git describe --always --abbrev=40 --exclude '*' --dirty 2>/dev/null)
# The same input gives the same digest: times are one time, and nothing is attached.
EPOCH := 1577836800
ifeq ($(notdir $(BUILD)),buildah)
BUILDER = $(BUILD) build --layers --timestamp $(EPOCH)
else
BUILDER = DOCKER_BUILDKIT=1 BUILDX_NO_DEFAULT_ATTESTATIONS=1 SOURCE_DATE_EPOCH=$(EPOCH) \
	$(BUILD) build
endif

.PHONY: image
image: ## build the images; PACK=folder puts a prepared pack into the workers'
	@[ -n "$(BUILD)" ] || { echo 'neither buildah nor docker is here'; exit 1; }
	@rm -rf build/pack && mkdir -p build/pack
	@[ -z "$(PACK)" ] || cp -Rp "$(PACK)/." build/pack/
	@chmod -R u=rwX,go=rX build/pack
	@for target in $(TARGETS); do \
		$(BUILDER) $(BUILD_ARGS) \
			$(if $(BASE),--build-arg BASE=$(BASE)) $(if $(TOOLS),--build-arg TOOLS=$(TOOLS)) \
			--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
			--target $$target --tag guise-$$target:$(VERSION) . || exit 1; done

.PHONY: containers
containers: .venv/.setup-dev ## start the images, and ask them (root, and buildah)
	@$(BIN)/python -m tools.image_checks $(VERSION)

.PHONY: sheet
sheet: .venv/.setup-dev ## draw the contact sheet of all samples in all directions
	@$(BIN)/python -m tools.sheet

.PHONY: lock
lock: .venv/.setup-dev ## resolve the lock files anew
	@$(BIN)/python -m pip install --quiet uv
	@$(DEMO) --output-file requirements/demo.lock
	@$(DEMO) --extra dev --extra signing --extra gcs --extra postgres --extra s3 --extra sbom \
		--output-file requirements/dev.lock
	@$(LOCK) --constraint requirements/dev.lock --extra build --extra sbom \
		--output-file requirements/images/tools.lock
	@$(IMAGE) --extra envelopes --output-file requirements/images/door.lock
	@$(IMAGE) --extra envelopes --extra cpu --output-file requirements/images/worker-cpu.lock
	@$(IMAGE) --extra envelopes --extra gpu --output-file requirements/images/worker-gpu.lock
	@$(IMAGE) --extra postgres --output-file requirements/images/audit.lock
	@$(IMAGE) --extra envelopes --extra postgres --extra pdf --output-file requirements/images/billing.lock

.PHONY: clean
clean: ## remove what was built and what ran here
	@rm -rf .venv .guise .pytest_cache .mypy_cache .ruff_cache .coverage*
