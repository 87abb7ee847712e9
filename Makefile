# `make` lists the targets. Everything that is needed beyond Rust and Go is built or installed here, into
# a cache folder outside the tree.

CARGO_DENY_VERSION := 0.20.2
CACHE := $(or $(TOKENWARD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tokenward)
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

.DEFAULT_GOAL := help
.PHONY: help demo test check audit generate cluster clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## See it work: a control plane, an OAuth server, two credentials (KEEP=1 stays up, CLUSTER=current uses the kubectl context)
	@cargo build --locked --bins --examples
	@cargo run --locked --quiet --example demo -- $(if $(KEEP),--keep) $(if $(CLUSTER),--cluster $(CLUSTER))

# The integration tests mostly wait for tokens to grow old, so more of them run than there are cores.
test: ## Run all tests, on a real control plane
	@cargo build --locked --bins --examples
	@cargo run --locked --quiet --example cluster -- --build-only >/dev/null
	@RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} cargo test --locked --no-fail-fast

check: $(CARGO_DENY) ## Formatting, lints, licences, and whether generated files are up to date
	@cargo fmt --all --check
	@cargo clippy --locked --all-targets -- -D warnings
	@$(CARGO_DENY) --locked check --hide-inclusion-graph bans licenses sources
	@generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT && \
	cargo run --locked --quiet -- crd --directory "$$generated" && \
	diff -r crds "$$generated" || { echo "crds/ is not up to date; run: make generate" >&2; exit 1; }
	@echo "check: ok"

audit: $(CARGO_DENY) ## Known vulnerabilities in dependencies (needs their database, from the internet)
	@$(CARGO_DENY) --locked check advisories

generate: ## Write the generated files: crds/
	@cargo run --locked --quiet -- crd --directory crds

cluster: ## Start a control plane, print how to use it, stop it with Ctrl-C
	@cargo run --locked --quiet --example cluster

clean: ## Remove what was built here (the control plane's programs stay in their cache)
	@cargo clean

$(CARGO_DENY):
	@echo "building cargo-deny $(CARGO_DENY_VERSION), about 3 min the first time" >&2
	@cargo install --quiet --locked cargo-deny --version $(CARGO_DENY_VERSION) --root $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)
