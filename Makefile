# Set-up, build, run, test, install. `make` alone lists the targets.
# Your own libraries: LIBTORCH=/dir, LIBTORCH_USE_PYTORCH=1, ORT_DYLIB_PATH=/file (see setup/setup.py).

PYTHON ?= python3
CARGO  ?= cargo
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)/release
LIB    := $(DESTDIR)$(PREFIX)/lib/bam
SHARE  := $(DESTDIR)$(PREFIX)/share/bam
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ALL    := bam-$(VERSION)-linux-x86_64
SERVE  := bam-serve-$(VERSION)-linux-x86_64
# The text of the GNU GPL, version 3, where Debian and where Fedora keep it.
GPL    := $(firstword $(wildcard /usr/share/common-licenses/GPL-3 /usr/share/licenses/libgcc/COPYING3))

# The newest glibc that archives may need: that of Debian 12, which setup/Dockerfile takes.
GLIBC  := 2.36

# Set by the user, even to nothing: then that library is his, and not ours to fetch or to install.
own = $(filter-out undefined,$(origin $(1)))

.PHONY: help setup build run test lint data bench conform install dist clean

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

bench: build ## measure against DVC, Snakemake, onnxruntime, FastAPI and, with GLUE=DIR, PyTorch and datasets (fetches them into .deps/bench, 8 GB); GLUE_SMALL=1 adds half an hour of glue-small
	$(PYTHON) -m venv .deps/bench
	.deps/bench/bin/pip install --quiet --requirement benches/requirements.txt
	PATH="$(CURDIR)/.deps/bench/bin:$$PATH" .deps/bench/bin/python benches/noop.py --bam $(TARGET)/bam
	.deps/bench/bin/python benches/engine.py --bam $(TARGET)/bam
	.deps/bench/bin/python benches/variants.py --bam $(TARGET)/bam
	$(CARGO) install --quiet --locked --version 1.16.0 --root .deps/bench oha
	.deps/bench/bin/python benches/serve.py --bam $(TARGET)/bam --oha .deps/bench/bin/oha
	.deps/bench/bin/python benches/rush.py --bam $(TARGET)/bam --oha .deps/bench/bin/oha
ifneq ($(GLUE),)
	.deps/bench/bin/python benches/train.py --bam $(TARGET)/bam --glue $(GLUE)
	.deps/bench/bin/python benches/predict.py --bam $(TARGET)/bam --glue $(GLUE)
	.deps/bench/bin/python benches/predict_onnx.py --bam $(TARGET)/bam --glue $(GLUE)
	.deps/bench/bin/python benches/tokens.py --bam $(TARGET)/bam --glue $(GLUE)
	.deps/bench/bin/python benches/memory.py --bam $(TARGET)/bam --glue $(GLUE)
ifneq ($(GLUE_SMALL),)
	.deps/bench/bin/python benches/glue_small.py --bam $(TARGET)/bam --glue $(GLUE)
endif
endif

conform: build ## have other programs open the files that bam writes, and schemathesis try the server (fetches them into .deps/conform, 2 GB)
	$(PYTHON) -m venv .deps/conform
	.deps/conform/bin/pip install --quiet --requirement tests/formats/requirements.txt --requirement tests/it/serve/requirements.txt
	.deps/conform/bin/pip install --quiet --no-deps --requirement tests/formats/torch.txt
	.deps/conform/bin/python tests/formats/slim_torch.py
	.deps/conform/bin/python tests/formats/check.py --bam $(TARGET)/bam
	PATH="$(CURDIR)/.deps/conform/bin:$$PATH" $(CARGO) test --release --workspace --test it serve::conform -- --nocapture

install: build data ## install below PREFIX=/usr/local (and DESTDIR=): bin/bam, lib/bam, share/bam
	install -d $(DESTDIR)$(PREFIX)/bin $(LIB) $(SHARE)/pipelines $(SHARE)/encoders $(SHARE)/data $(SHARE)/licenses
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
	cp -R .deps/data/. $(SHARE)/data
	cp -R pipelines/. $(SHARE)/pipelines
	install -m 644 pipeline.yaml $(SHARE)/pipeline.yaml
	install -m 644 LICENSE $(SHARE)/LICENSE
	@# In the tree encoders and data lie in .deps/, and scripts beside the pipelines; installed, all lie in share/bam.
	find $(SHARE) -name '*.yaml' -exec sed -i -e 's#: \.deps/#: $${bam:share}/#' -e 's#: pipelines/#: $${bam:share}/pipelines/#' {} +

dist: ## two archives in dist/ that run where they are unpacked: all of bam, and what serving alone needs
	@test -z "$(call own,LIBTORCH)$(call own,LIBTORCH_USE_PYTORCH)$(ORT_DYLIB_PATH)" || { \
	    echo "error: an archive takes the libraries that make setup brings: unset LIBTORCH and ORT_DYLIB_PATH" >&2; exit 2; }
	@test -n "$(GPL)" || { \
	    echo "error: no text of the GNU GPL, version 3, for the archives: GPL=/file names one" >&2; exit 2; }
	@command -v readelf > /dev/null || { \
	    echo "error: no readelf (Debian package binutils) to see which glibc the archives need" >&2; exit 2; }
	rm -rf dist
	$(MAKE) install DESTDIR=$(CURDIR)/dist PREFIX=/$(ALL)
	@# Of the C++ runtime only glibc itself is taken for granted.
	cp -L $(shell $(CXX) -print-file-name=libstdc++.so.6) $(shell $(CXX) -print-file-name=libgcc_s.so.1) dist/$(ALL)/lib/bam
	@needed=$$(readelf --version-info dist/$(ALL)/bin/* dist/$(ALL)/lib/bam/* | grep -o 'GLIBC_2[.0-9]*' | sort -Vu | tail -n 1); \
	test -n "$$needed" || { echo "error: readelf finds no version of glibc in dist/$(ALL)" >&2; exit 2; }; \
	test "$$(printf '%s\n' $$needed GLIBC_$(GLIBC) | sort -V | tail -n 1)" = GLIBC_$(GLIBC) || { \
	    echo "error: the archive would need $$needed, newer than the $(GLIBC) that docs/serving.md promises" >&2; exit 2; }
	install -d dist/$(ALL)/share/bam/licenses/gcc-runtime
	cp setup/gcc-runtime.txt $(GPL) dist/$(ALL)/share/bam/licenses/gcc-runtime
	install -d dist/$(SERVE)/bin dist/$(SERVE)/lib/bam dist/$(SERVE)/share/bam/licenses
	cp dist/$(ALL)/bin/bam dist/$(SERVE)/bin
	cp $(addprefix dist/$(ALL)/lib/bam/,libonnxruntime.so libstdc++.so.6 libgcc_s.so.1) dist/$(SERVE)/lib/bam
	cp -R dist/$(ALL)/share/bam/LICENSE dist/$(SERVE)/share/bam
	cp -R $(addprefix dist/$(ALL)/share/bam/licenses/,onnxruntime gcc-runtime) dist/$(SERVE)/share/bam/licenses
	$(PYTHON) setup/licenses.py bam bam-stages > dist/$(ALL)/share/bam/licenses/crates.txt
	$(PYTHON) setup/licenses.py bam > dist/$(SERVE)/share/bam/licenses/crates.txt
	for name in $(ALL) $(SERVE); do \
	    tar -C dist --sort=name --owner=0 --group=0 --numeric-owner -czf dist/$$name.tar.gz $$name && rm -r dist/$$name || exit; \
	done
	cd dist && sha256sum *.tar.gz > SHA256SUMS

clean: ## delete what cargo built (.deps/ and artifacts/ stay)
	$(CARGO) clean
