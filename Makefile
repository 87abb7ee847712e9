# `make` lists the targets. Everything that is needed beyond Rust and Go is built or installed here, into
# a cache folder outside the tree.

CARGO_DENY_VERSION := 0.20.2
CACHE := $(or $(TOKENWARD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tokenward)
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

CARGO_AUDITABLE_VERSION := 0.7.7
CARGO_AUDITABLE := $(CACHE)/cargo-auditable-$(CARGO_AUDITABLE_VERSION)/bin/cargo-auditable
AUDITABLE2CDX_VERSION := 0.1.0
AUDITABLE2CDX := $(CACHE)/auditable2cdx-$(AUDITABLE2CDX_VERSION)/bin/auditable2cdx

HELM_DOCS_VERSION := 1.14.2
HELM_DOCS := $(CACHE)/helm-docs-$(HELM_DOCS_VERSION)/helm-docs
HELM_UNITTEST_VERSION := 1.1.2
HELM_UNITTEST := $(CACHE)/helm-unittest-$(HELM_UNITTEST_VERSION)/helm-unittest

# The image: for which machines (amd64, arm64), under which name, and what its labels say.
IMAGE_ARCH ?= $(shell dpkg --print-architecture)
IMAGE_VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
IMAGE_REVISION ?= $(shell git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null || echo unknown)
IMAGE_SOURCE ?=
IMAGE_NAME ?= tokenward:$(IMAGE_VERSION)
# Times in the image are those of the commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
IMAGE = target/image$(if $(filter-out $(shell dpkg --print-architecture),$(IMAGE_ARCH)),-$(IMAGE_ARCH))
IMAGE_ROOT ?= $(IMAGE)/build/image

# Helm reads only what is in the chart's folder, so that it holds copies.
CHART := charts/tokenward

# The OAuth servers of others, each in a folder that is named after what is in it.
hash = $(firstword $(shell { cat $(1); $(2); } 2>/dev/null | cksum))
OIDC_PINS := tests/interop/oidc-provider/package-lock.json
OIDC := $(CACHE)/interop-oidc-provider-$(call hash,$(OIDC_PINS),true)
DJANGO_PINS := tests/interop/django/requirements.txt
DJANGO := $(CACHE)/interop-django-$(call hash,$(DJANGO_PINS),python3 --version)

# Prometheus, and what reads dashboards as Grafana does, in a folder that is named after what they are built from.
MONITORING_SOURCES := $(addprefix tests/monitoring/tools/,go.mod go.sum dashboard/main.go)
MONITORING := $(CACHE)/monitoring-$(call hash,$(MONITORING_SOURCES),true)

.DEFAULT_GOAL := help
.PHONY: help demo test bench fuzz check audit generate cluster interop monitoring image image-needs image-binary image-tools node-packages sbom clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## See it work: a control plane, an OAuth server, two credentials (KEEP=1 stays up, CLUSTER=current uses the kubectl context)
	@cargo build --locked --bins --examples
	@cargo run --locked --quiet --example demo -- $(if $(KEEP),--keep) $(if $(CLUSTER),--cluster $(CLUSTER))

# The integration tests mostly wait for tokens to grow old, so more of them run than there are cores.
test: export TOKENWARD_INTEROP_OIDC := $(OIDC)
test: export TOKENWARD_INTEROP_DJANGO := $(DJANGO)
test: export TOKENWARD_IMAGE_ARCHIVE := $(CURDIR)/target/image/tokenward.tar
test: export TOKENWARD_MONITORING := $(MONITORING)
test: $(OIDC) $(DJANGO) $(MONITORING) image ## Run all tests, on a real control plane
	@cargo build --locked --bins --examples
	@cargo run --locked --quiet --example cluster -- --build-only >/dev/null
	@$(MAKE) --silent node-packages
	@RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} cargo test --locked --no-fail-fast

# Everything in one profile, the starter of the control plane too, so that nothing is built twice.
bench: ## Measure exchanges, 10,000 credentials and the lock, about 20 min (ONLY=renewals: one entry of the lock; ONLY=--help names them)
	@cargo bench --locked --benches --no-run
	@$(if $(ONLY),,cargo bench --locked --quiet --bench oauth)
	@cargo run --locked --quiet --profile bench --example cluster -- --build-only >/dev/null
	@$(if $(ONLY),,cargo run --locked --quiet --profile bench --example cluster -- \
	cargo bench --locked --quiet --bench life)
	@$(if $(ONLY),,MIMALLOC_ARENA_EAGER_COMMIT=0 MIMALLOC_PURGE_DELAY=0 \
	cargo run --locked --quiet --profile bench --example cluster -- cargo bench --locked --quiet --bench scale)
	@cargo run --locked --quiet --profile bench --example cluster -- \
	cargo bench --locked --quiet --bench lock -- $(ONLY)

# The coverage that libFuzzer steers by is a pass of the compiler, and needs no nightly one. The corpus begins with the
# answers of the catalogue's tests.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Clink-dead-code -Ccodegen-units=1

fuzz: ## Feed the reading of answers with what nobody thought of (SECONDS=600; 60 unless set)
	@mkdir -p fuzz/corpus/answer fuzz/artifacts
	@for file in tests/catalog/*.yaml; do cp "$$file" fuzz/corpus/answer/; done
	@RUSTFLAGS="$(FUZZ_FLAGS)" cargo run --quiet --release --manifest-path fuzz/Cargo.toml \
	--target "$$(rustc -vV | sed -n 's/^host: //p')" --bin answer -- \
	-max_total_time=$(or $(SECONDS),60) -artifact_prefix=fuzz/artifacts/ fuzz/corpus/answer

check: $(CARGO_DENY) $(HELM_DOCS) $(HELM_UNITTEST) ## Formatting, lints, licences, the chart's own tests, and whether generated files are up to date
	@cargo fmt --all --check
	@cargo clippy --locked --all-targets -- -D warnings
	@$(CARGO_DENY) --locked check --hide-inclusion-graph bans licenses sources
	@generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT && \
	cargo run --locked --quiet -- crd --directory "$$generated" && \
	diff -r crds "$$generated" && diff -r crds $(CHART)/files/crds && \
	for file in lease-policy.yaml lease-policy-strict.yaml; do diff deploy/$$file $(CHART)/files/$$file || exit 1; done && \
	cp -r $(CHART) "$$generated/chart" && $(HELM_DOCS) --chart-search-root "$$generated/chart" --log-level warning && \
	diff $(CHART)/README.md "$$generated/chart/README.md" || \
	{ echo "generated files are not up to date; run: make generate" >&2; exit 1; }
	@$(HELM_UNITTEST) $(CHART)
	@echo "check: ok"

audit: $(CARGO_DENY) ## Known vulnerabilities in dependencies (needs their database, from the internet)
	@$(CARGO_DENY) --locked check advisories

generate: $(HELM_DOCS) ## Write the generated files: crds/, the chart's copies and README, docs/api.md, and the table of presets in docs/providers.md
	@cargo run --locked --quiet -- crd --directory crds
	@cp crds/*.yaml $(CHART)/files/crds/ && cp deploy/lease-policy.yaml deploy/lease-policy-strict.yaml $(CHART)/files/
	@$(HELM_DOCS) --chart-search-root $(CHART) --log-level warning
	@TOKENWARD_GENERATE=1 cargo test --locked --quiet --lib -- the_document_lists_every_preset the_reference_is

cluster: ## Start a control plane, print how to use it, stop it with Ctrl-C
	@cargo run --locked --quiet --example cluster

# Where they cannot be installed, the tests that need a node say what is missing.
node-packages:
	@missing=$$(cargo run --locked --quiet --example cluster -- --missing-packages); \
	[ -z "$$missing" ] || [ "$$(id -u)" != 0 ] || { echo "installing $$missing" >&2; apt-get -o DPkg::Lock::Timeout=300 update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $$missing >/dev/null; }

interop: $(OIDC) $(DJANGO) ## Install the OAuth servers of others that the tests use, and print where they are
	@echo "export TOKENWARD_INTEROP_OIDC='$(OIDC)'"
	@echo "export TOKENWARD_INTEROP_DJANGO='$(DJANGO)'"

monitoring: $(MONITORING) ## Build the Prometheus that the tests use, and print where it is
	@echo "export TOKENWARD_MONITORING='$(MONITORING)'"
image: image-needs sbom ## Build the container image and its SBOM into target/image, about 5 min (IMAGE_ARCH=arm64: for other machines)
	@VERSION="$(IMAGE_VERSION)" REVISION="$(IMAGE_REVISION)" SOURCE="$(IMAGE_SOURCE)" IMAGE_NAME="$(IMAGE_NAME)" \
	image/pack.sh $(IMAGE_ARCH) $(IMAGE)
	@echo "$(IMAGE)/tokenward.tar $$(cat $(IMAGE)/digest)"

sbom: image-binary $(AUDITABLE2CDX) ## Build the image's program, and list what it is made of in target/image/tokenward.cdx.json (CycloneDX)
	@$(AUDITABLE2CDX) $(IMAGE_ROOT)/tokenward >$(IMAGE)/tokenward.cdx.json

# Before anything is built that takes minutes.
image-needs:
	@image/needs.sh $(IMAGE_ARCH) binary pack

# What the image consists of; the Dockerfile has it built by this too.
image-binary: $(CARGO_AUDITABLE)
	@CARGO_AUDITABLE=$(CARGO_AUDITABLE) image/binary.sh $(IMAGE_ARCH) $(IMAGE_ROOT)

image-tools: $(CARGO_AUDITABLE)

clean: ## Remove what was built here (the control plane's programs stay in their cache)
	@cargo clean

$(CARGO_DENY):
	@echo "building cargo-deny $(CARGO_DENY_VERSION), about 3 min the first time" >&2
	@cargo install --quiet --locked cargo-deny --version $(CARGO_DENY_VERSION) --root $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)

$(CARGO_AUDITABLE):
	@echo "building cargo-auditable $(CARGO_AUDITABLE_VERSION), about 15 s the first time" >&2
	@cargo install --quiet --locked cargo-auditable --version $(CARGO_AUDITABLE_VERSION) --root $(CACHE)/cargo-auditable-$(CARGO_AUDITABLE_VERSION)

$(AUDITABLE2CDX):
	@echo "building auditable2cdx $(AUDITABLE2CDX_VERSION), about 1 min the first time" >&2
	@cargo install --quiet --locked auditable2cdx --version $(AUDITABLE2CDX_VERSION) --root $(CACHE)/auditable2cdx-$(AUDITABLE2CDX_VERSION)

$(HELM_DOCS):
	@echo "building helm-docs $(HELM_DOCS_VERSION), about 30 s the first time" >&2
	@GOBIN=$(@D) go install -trimpath github.com/norwoodj/helm-docs/cmd/helm-docs@v$(HELM_DOCS_VERSION)

# Its module replaces another one, which `go install` refuses: it is built in a copy of its source.
$(HELM_UNITTEST):
	@echo "building helm-unittest $(HELM_UNITTEST_VERSION), about 30 s the first time" >&2
	@mkdir -p $(@D) && new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && cd "$$new" && \
	source=$$(go mod download -json github.com/helm-unittest/helm-unittest@v$(HELM_UNITTEST_VERSION) | \
	sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$$/\1/p') && test -d "$$source" && \
	cp -r "$$source/." . && chmod -R u+w . && \
	go build -trimpath -ldflags='-s -w' -o built ./cmd/helm-unittest && mv built $@

# A folder is there whole or not at all.
$(OIDC):
	@echo "installing oidc-provider for the interop tests, about 10 s the first time" >&2
	@mkdir -p $(CACHE) && new=$$(mktemp -d $(OIDC).XXXXXX) && trap 'rm -rf "$$new"' EXIT && \
	cp tests/interop/oidc-provider/package*.json "$$new" && \
	npm ci --prefix "$$new" --ignore-scripts --no-audit --no-fund --loglevel error >/dev/null && \
	mv -T "$$new" $@ 2>/dev/null || test -d $@

$(DJANGO):
	@echo "installing django-oauth-toolkit for the interop tests, about 20 s the first time" >&2
	@mkdir -p $(CACHE) && new=$$(mktemp -d $(DJANGO).XXXXXX) && trap 'rm -rf "$$new"' EXIT && \
	python3 -m venv "$$new" && \
	"$$new/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(DJANGO_PINS) >&2 && \
	mv -T "$$new" $@ 2>/dev/null || test -d $@

# Without Prometheus' own pages, and what finds targets in clouds, it is built in a third of the time.
$(MONITORING):
	@command -v go >/dev/null || { echo "Prometheus is built with Go, which is not on the PATH: https://go.dev/doc/install" >&2; exit 1; }
	@echo "building Prometheus for the tests of alerts, about 2 min the first time" >&2
	@mkdir -p $(CACHE) && new=$$(mktemp -d $(MONITORING).XXXXXX) && trap 'rm -rf "$$new"' EXIT && \
	cd tests/monitoring/tools && CGO_ENABLED=0 GOWORK=off GOOS= GOARCH= go build -mod=readonly -buildvcs=false -trimpath \
	-tags remove_all_sd -ldflags "-s -w" -o "$$new/" ./dashboard \
	github.com/prometheus/prometheus/cmd/prometheus github.com/prometheus/prometheus/cmd/promtool && \
	mv -T "$$new" $@ 2>/dev/null || test -d $@
