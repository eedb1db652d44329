PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo tune-demo test test-slow fuzz verdicts bench-prepare bench-ingest bench-listing bench-train bench-gpu test-gpu lint clean

.venv/.ok: pyproject.toml constraints.txt tests/s3_server.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	$(PYTHON) -m venv .venv/s3
	.venv/s3/bin/pip install --no-deps -r tests/s3_server.txt
	touch $@

# The folder that fetch prints tells which of the two data sets could be had.
demo: .venv/.ok
	@set -e; \
	folder="$$($(BIN)/orchestrator fetch fashion-mnist --else mnist)"; \
	case "$$(basename "$$folder")" in \
	  fashion-mnist) job=jobs/fashion_mnist.yaml ;; \
	  *) job=jobs/mnist.yaml; echo "Fashion-MNIST could not be fetched: the demo runs on MNIST" >&2 ;; \
	esac; \
	$(BIN)/orchestrator run "$$job"

# Twelve trials at most, whose best is compared with the job's own parameters on the test images.
tune-demo: .venv/.ok
	$(BIN)/orchestrator fetch fashion-mnist
	$(BIN)/orchestrator tune jobs/fashion_mnist_tune.yaml

# Tests without Ray in as many processes as there are cores, with a thread each, then one Ray for the others.
ALONE := tests/unit tests/architecture
test: .venv/.ok
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow and not gpu" -n logical --maxprocesses 8 --dist loadfile $(ALONE)
	$(BIN)/pytest -m "not slow and not gpu" $(ALONE:%=--ignore=%)

test-slow: .venv/.ok
	$(BIN)/pytest -m "slow and not gpu"

# The same training on GPUs as on CPUs; every test says that it is skipped where there is none.
test-gpu: .venv/.ok
	$(BIN)/pytest -m gpu

# A million damaged images through the process that decodes; FUZZ_SEED repeats a run.
FUZZ_IMAGES ?= 1000000
FUZZ_SECONDS ?= 3600
FUZZ_SEED ?=
fuzz: .venv/.ok
	$(BIN)/python tests/unit/images/fuzz.py --images $(FUZZ_IMAGES) --seconds $(FUZZ_SECONDS) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED))

# The table of bad images, from the cases that the tests run.
verdicts: .venv/.ok
	$(BIN)/python tests/unit/images/verdict_cases.py > orchestrator/images/VERDICTS.md

# Against bare OpenCV loops, on a machine that does nothing else; a quick try: make bench-prepare ARGS="--images 300 --many 0 --repeats 2".
bench-prepare: .venv/.ok
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench_prepare.py $(ARGS)

# What training reads, against bare OpenCV loops and other loaders; a quick try: make bench-ingest ARGS="--repeats 1 --loaders torch".
bench-ingest: .venv/.ok
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench_ingest.py $(ARGS)

# Our training steps, checkpoints and first step, against plain DistributedDataParallel under torchrun, on CPUs.
bench-train: .venv/.ok
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench_train.py $(ARGS)

# How well GPUs are fed, and CIFAR-10 on them; needs a GPU.
bench-gpu: .venv/.ok
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench_gpu.py $(ARGS)

# A million files: how many a second, and how much memory.
bench-listing: .venv/.ok
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench_listing.py $(ARGS)

lint: .venv/.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy orchestrator

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find orchestrator tests -name __pycache__ -type d -prune -exec rm -rf {} +
