# Set-up, build, run, test, install. `make` alone lists the targets.
# Your own libraries: LIBTORCH=/dir, LIBTORCH_USE_PYTORCH=1, ORT_DYLIB_PATH=/file (see setup/setup.py).

PYTHON ?= python3
CARGO  ?= cargo
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)/release
LIB    := $(DESTDIR)$(PREFIX)/lib/bam
SHARE  := $(DESTDIR)$(PREFIX)/share/bam

# Set by the user, even to nothing: then that library is his, and not ours to fetch or to install.
own = $(filter-out undefined,$(origin $(1)))

.PHONY: help setup build run test lint data bench install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## fetch libtorch, ONNX Runtime and the encoder into .deps/ (pinned, hashes checked)
	@$(PYTHON) setup/setup.py

build: setup ## build target/release/bam and bam-stage
	$(CARGO) build --release --workspace --bins

run: build ## set up, build, and run pipeline.yaml (more arguments: ARGS='--set seed=3')
	$(TARGET)/bam run pipeline.yaml $(ARGS)

test: setup ## set up, and run all tests (more arguments: ARGS=a_cycle)
	$(CARGO) test --release --workspace $(ARGS)

lint: setup ## check the formatting, and clippy with warnings as errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

data: ## fetch the sentiment ratings that pipelines/sentiment.yaml reads into .deps/data/
	@$(PYTHON) setup/setup.py data

bench: build ## measure against DVC, Snakemake, onnxruntime and, with GLUE=DIR, PyTorch (fetches them into .deps/bench, 8 GB)
	$(PYTHON) -m venv .deps/bench
	.deps/bench/bin/pip install --quiet --requirement benches/requirements.txt
	PATH="$(CURDIR)/.deps/bench/bin:$$PATH" .deps/bench/bin/python benches/noop.py --bam $(TARGET)/bam
	.deps/bench/bin/python benches/variants.py --bam $(TARGET)/bam
ifneq ($(GLUE),)
	.deps/bench/bin/python benches/train.py --bam $(TARGET)/bam --glue $(GLUE)
endif

install: build ## install below PREFIX=/usr/local (and DESTDIR=): bin/bam, lib/bam, share/bam
	install -d $(DESTDIR)$(PREFIX)/bin $(LIB) $(SHARE)/pipelines $(SHARE)/encoders $(SHARE)/licenses
	rm -f $(LIB)/*.so*
	install -m 755 $(TARGET)/bam $(DESTDIR)$(PREFIX)/bin/bam
	install -m 755 $(TARGET)/bam-stage $(LIB)/bam-stage
ifeq ($(call own,LIBTORCH)$(call own,LIBTORCH_USE_PYTORCH),)
	install -m 644 $(addprefix .deps/libtorch/lib/,libtorch_cpu.so libc10.so libgomp.so.1 libcudart.so.13 libcupti.so.13) $(LIB)
	cp -R .deps/libtorch/licenses/. $(SHARE)/licenses
else
	@echo "note: the installed bam-stage uses your libtorch where it lies now; keep it there"
endif
ifeq ($(ORT_DYLIB_PATH),)
	install -m 644 .deps/onnxruntime/lib/libonnxruntime.so $(LIB)
	cp -R .deps/onnxruntime/licenses/. $(SHARE)/licenses
else
	@echo "note: the installed bam-stage uses $(ORT_DYLIB_PATH); keep it there"
endif
	cp -R .deps/encoders/. $(SHARE)/encoders
	install -m 644 LICENSE $(SHARE)/LICENSE
	@# In the tree the encoders lie in .deps/, here beside pipeline.yaml.
	sed 's#\.deps/encoders/#$(abspath $(PREFIX))/share/bam/encoders/#g' pipeline.yaml > $(SHARE)/pipeline.yaml
	cp -R pipelines/. $(SHARE)/pipelines
	find $(SHARE)/pipelines -name '*.yaml' -exec sed -i 's#\.deps/encoders/#$(abspath $(PREFIX))/share/bam/encoders/#g' {} +

clean: ## delete what cargo built (.deps/ and artifacts/ stay)
	$(CARGO) clean
