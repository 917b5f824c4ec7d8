# Two commands matter: `make run` and `make test`. The rest is for whoever works on Sentinel.

SHELL := /bin/bash
CARGO ?= cargo

.PHONY: run test fuzz-api fuzz-detect newcomer lint bench tools openapi

# Builds in the dev profile (short build, hot crates optimised) and starts everything on loopback.
run: tools
	$(CARGO) build --bin sentinel
	$(CARGO) run --quiet --bin sentinel -- dev $(ARGS)

# Brings what the tests need, starts a throwaway PostgreSQL on a unix socket, runs everything, cleans up.
test: tools
	tests/run.sh

# schemathesis on the API for ten minutes: five on each engine, with requests of its own choice.
fuzz-api: tools
	FUZZ_API_SECONDS=300 tests/run.sh --test it -- --nocapture --test-threads 1 admin::fuzz

# Random structures for every decoder of texts, for about ten minutes.
fuzz-detect: tools
	FUZZ_DETECT=2000 $(CARGO) test --lib -- detect::views::fuzz

# A newcomer's first steps by clicks on /docs, in a browser.
newcomer: tools
	tests/newcomer/run.sh

lint: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

# Figures and method: benches/README.md.
bench: tools
	$(CARGO) bench

openapi: tools
	$(CARGO) run --quiet --bin sentinel -- openapi > admin/openapi.json
	$(CARGO) run --quiet --bin sentinel -- policy schema > admin/policy.schema.json

# pingora's compression is built with cmake.
tools:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install it with rustup" >&2; exit 1; }
	@command -v cc >/dev/null || tests/debian.sh gcc libc6-dev
	@command -v cmake >/dev/null || tests/debian.sh cmake
