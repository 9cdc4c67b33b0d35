# make demo   everything from nothing: environment, build, training, export, serving without torch
# make test   everything from nothing: environment, build, lint, types, all tests
# make bench  speed beside torch and other peers, on this machine
# make lint   style and types alone

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# CUDA kernels for this machine's GPU, if it has one; for emulated threads anyway, see tests/test_cuda_*.
BUILD_OPTIONS := -Ccmake.define.SEQREC_WERROR=ON -Ccmake.define.SEQREC_CUDA_EMULATION=ON \
	$(if $(shell nvidia-smi -L 2>/dev/null),-Ccmake.define.SEQREC_CUDA_ARCHITECTURES=native,-Ccmake.define.SEQREC_CUDA=OFF)
SOURCES := CMakeLists.txt pyproject.toml $(shell find cpp cmake -type f)

.PHONY: demo test bench lint sanitize cuda-compile cuda-check wheel-check clean

demo: $(VENV)/.installed
	$(BIN)/seqrec-fast demo

test: $(VENV)/.installed lint
	OMP_NUM_THREADS=1 SEQREC_FAST_NUM_THREADS=2 $(BIN)/python -m pytest -q -n auto tests
	OMP_NUM_THREADS=1 SEQREC_FAST_NUM_THREADS=2 $(BIN)/python -m pytest -q -n auto -o python_files='bench_*.py' bench --benchmark-disable

bench: $(VENV)/.installed $(VENV)/.bench
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.run

lint: $(VENV)/.installed
	$(BIN)/ruff check python tests bench
	$(BIN)/ruff format --check python tests bench
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find cpp -name '*.h' -o -name '*.cpp' -o -name '*.cu')

# The C++ under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer.
sanitize: $(VENV)/.installed
	tools/sanitize.sh address,undefined
	tools/sanitize.sh thread

# All CUDA kernels through nvcc, which needs no GPU: warnings, spills, tensor-core instructions.
cuda-compile:
	$(PYTHON) tools/check_cuda.py

# For a machine with a GPU, nvcc, CMake and PyTorch, without a network: builds, tests, checks memory
# accesses and races, and times; results go to $(CUDA_RESULTS).
CUDA_RESULTS ?= bench/results/cuda.md
cuda-check:
	tools/cuda_check.sh $(CUDA_RESULTS)

# A built wheel works where there is neither Highway nor torch.
wheel-check: $(VENV)/.installed
	tools/check_wheel.sh

# System packages, then a virtual environment with torch (pinned in constraints.txt) and the
# package. The CPU build of torch is asked for first; where no index has it, the default one.
$(VENV)/.environment: constraints.txt pyproject.toml tools/install_system_packages.sh
	tools/install_system_packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) 'torch==2.13.0+cpu' || $(PIP) -c constraints.txt torch
	$(PIP) 'scikit-build-core>=1.0' 'pybind11>=3.0' ninja cmake
	touch $@

# Editable, so that only a change of the C++ needs a new build.
$(VENV)/.installed: $(VENV)/.environment $(SOURCES)
	$(PIP) -c constraints.txt --no-build-isolation $(BUILD_OPTIONS) -e '.[train,test,lint]'
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(PIP) -c constraints.txt -e '.[bench]' --no-build-isolation $(BUILD_OPTIONS)
	touch $@

clean:
	rm -rf build dist $(VENV) demo-output
