# What a developer runs, and what CI runs. Nothing has to be installed beforehand but Rust, Python 3, npm, Chromium and make:
# the targets fetch what they need into the cache folder, outside of the clone.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tenantry
BED := $(CACHE)/bed
TOOLS := $(CACHE)/tools
CLI := $(CACHE)/aws-cli
SAM := $(CACHE)/sam-cli
LINT := $(CACHE)/lint
AXE := $(CACHE)/axe
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
AWS_CLI_VERSION := 1.46.3
SAM_CLI_VERSION := 1.170.0
CFN_LINT_VERSION := 1.58.0
CHECKOV_VERSION := 3.3.30
ZIZMOR_VERSION := 1.32.0
JSONSCHEMA_VERSION := 0.39.0
ACTION_VALIDATOR_VERSION := 0.6.0
AXE_VERSION := 4.14.1
WORKFLOWS := .github/workflows/*.yml examples/workflows/*.yml
NEXTEST := 0.9.143
DENY := 0.20.2

# Graviton's kernels come with pages of 4 and of 64 KiB, and an allocator that knows the larger ones works with both.
ifneq (,$(filter aarch64-%,$(HOST)))
export JEMALLOC_SYS_WITH_LG_PAGE := 16
endif

# A target folder outside of the clone: a fresh clone compiles its own crate and no dependency again.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export TENANTRY_BED_PYTHON := $(BED)/bin/python
export PATH := $(TOOLS)/bin:$(PATH)

.PHONY: pictures demo ci fmt clippy doc deny lint linters test simulate bench bench-package static bed axe cli tools schema permissions snapshots claim
.DEFAULT_GOAL := ci

# Run the main job: a release to three accounts of a local AWS, from package to status.
demo: bed claim
	cargo build --locked --quiet
	PATH="$(CARGO_TARGET_DIR)/debug:$$PATH" examples/hello/demo.sh

# Run everything that CI runs.
ci: fmt clippy doc deny lint test

# Check the formatting.
fmt:
	cargo fmt --check

# Lint, with warnings denied.
clippy: claim
	cargo clippy --locked --all-targets -- -D warnings

# Build the documentation, private items included, with warnings denied.
doc: claim
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet

# Check licences, sources and banned crates. (`cargo deny check advisories` needs the network.)
deny: tools
	cargo fetch --locked --quiet
	cargo deny --locked --offline check bans licenses sources

# Check all templates and workflows: their form, and what is wise. Exceptions stand beside what they are for, with the reason. What does
# not is for the examples' functions: they answer whoever calls them (no dead letters, no network of their own), as often
# as they are called. Of workflows and the action, form and safety; action-validator's schema is older than the permission
# `attestations`, which the release needs. Of what the CDK has written, the form alone is looked at; it names dependencies twice (W3005).
lint: linters
	$(LINT)/bin/cfn-lint -c I -- infra/*.yaml
	$(LINT)/bin/cfn-lint -c I -i W3002 -- examples/*/template.yaml examples/hello/application.yaml
	$(LINT)/bin/cfn-lint -i W3005 -- examples/image-recognition/cdk.out/*.template.json
	$(LINT)/bin/checkov --framework cloudformation --skip-download --compact --quiet -d infra
	$(LINT)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows $(WORKFLOWS)
	$(LINT)/bin/check-jsonschema --quiet --builtin-schema vendor.github-actions action.yml
	$(LINT)/bin/zizmor --offline --quiet --persona pedantic action.yml $(WORKFLOWS)
	for file in action.yml $(filter-out .github/workflows/release.yml,$(wildcard $(WORKFLOWS))); do \
	  $(LINT)/node_modules/.bin/action-validator $$file || exit 1; done
	for example in hello abac policy-stores; do $(LINT)/bin/checkov --framework cloudformation --skip-download --compact --quiet \
	  --skip-check CKV_AWS_115,CKV_AWS_116,CKV_AWS_117 -d examples/$$example || exit 1; done

# Run all unit and integration tests. The tests of the action and the buildspec run the static binary.
test: bed axe cli tools static claim
	cargo nextest run --locked

# Take the README's pictures again, of a rollout to 400 accounts of the fleet server.
pictures: claim
	cargo nextest run --locked --run-ignored only -E 'test(pictures)'

# Run the engine against a simulated fleet for as many seeds as wanted; SEED=17 replays one, and tells what happens.
SEEDS ?= 100000
simulate: claim
	cargo build --locked --quiet --release --tests
	$(if $(SEED),SEED=$(SEED),SEEDS=$(SEEDS)) cargo test --locked --quiet --release --test simulation -- --nocapture

# Measure rollouts from 1 to 10,000 tenants, and the same with the AWS CLI in a loop; SIZES says how many tenants.
bench: static cli
	TENANTRY="$(CARGO_TARGET_DIR)/$(HOST)/dist/tenantry" AWS_CLI=$(CLI)/bin/aws cargo bench --locked --bench fleet -- $(SIZES)

# Measure packaging, side by side with the AWS CLI, with zip, and with nothing but deflate.
bench-package: static cli
	TENANTRY="$(CARGO_TARGET_DIR)/$(HOST)/dist/tenantry" AWS_CLI=$(CLI)/bin/aws cargo bench --locked --bench package

# Build the static binary and run it where there is nothing else.
static: claim
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --target $(HOST)
	tests/static.sh "$(CARGO_TARGET_DIR)/$(HOST)/dist/tenantry"

# Install the emulator into a virtual environment, unless these versions are there.
bed:
	@cmp -s tests/bed/requirements.txt $(BED)/requirements.txt || { \
		rm -rf $(BED) && python3 -m venv $(BED) && \
		$(BED)/bin/pip install --quiet --disable-pip-version-check -r tests/bed/requirements.txt && \
		cp tests/bed/requirements.txt $(BED)/requirements.txt; }

# Install the AWS CLI and the SAM CLI, with which packaging is compared, unless they are there.
cli:
	@test -f $(CLI)/$(AWS_CLI_VERSION) || { rm -rf $(CLI) && python3 -m venv $(CLI) && \
		$(CLI)/bin/pip install --quiet --disable-pip-version-check awscli==$(AWS_CLI_VERSION) && \
		touch $(CLI)/$(AWS_CLI_VERSION); }
	@test -f $(SAM)/$(SAM_CLI_VERSION) || { rm -rf $(SAM) && python3 -m venv $(SAM) && \
		$(SAM)/bin/pip install --quiet --disable-pip-version-check aws-sam-cli==$(SAM_CLI_VERSION) && \
		touch $(SAM)/$(SAM_CLI_VERSION); }

# Fetch what judges whether a page shuts anybody out.
axe:
	@test "$$(cat $(AXE)/.installed 2>/dev/null)" = $(AXE_VERSION) || { rm -rf $(AXE) && mkdir -p $(AXE) && \
		npm install --silent --prefix $(AXE) axe-core@$(AXE_VERSION) && echo $(AXE_VERSION) >$(AXE)/.installed; }

# Install what checks templates and workflows, unless it is there. action-validator comes from npm.
LINTERS := cfn-lint==$(CFN_LINT_VERSION) checkov==$(CHECKOV_VERSION) zizmor==$(ZIZMOR_VERSION) check-jsonschema==$(JSONSCHEMA_VERSION)
linters:
	@echo "$(LINTERS) $(ACTION_VALIDATOR_VERSION)" | cmp -s - $(LINT)/.installed || { rm -rf $(LINT) && python3 -m venv $(LINT) && \
		$(LINT)/bin/pip install --quiet --disable-pip-version-check $(LINTERS) && \
		npm install --silent --prefix $(LINT) \
		  @action-validator/core@$(ACTION_VALIDATOR_VERSION) @action-validator/cli@$(ACTION_VALIDATOR_VERSION) && \
		echo "$(LINTERS) $(ACTION_VALIDATOR_VERSION)" >$(LINT)/.installed; }

# Install cargo-nextest and cargo-deny, unless they are there.
tools:
	@command -v cargo-nextest >/dev/null || cargo install --locked --quiet --root $(TOOLS) cargo-nextest@$(NEXTEST)
	@command -v cargo-deny >/dev/null || cargo install --locked --quiet --root $(TOOLS) cargo-deny@$(DENY)

# Write the JSON Schema of tenantry.yaml anew.
schema: claim
	cargo run --locked --quiet -- schema > schema/tenantry.schema.json

# Write anew which actions CloudFormation needs for each resource type, from the schemas that cfn-lint bundles.
permissions: linters
	$(LINT)/bin/python tests/permissions.py src/infra/data/permissions.json.gz

# Accept what the tests see as the new snapshots; look at the difference before you commit it.
snapshots: bed cli tools claim
	INSTA_UPDATE=always cargo nextest run --locked --no-fail-fast

# Take the target folder over from another clone. Cargo compares times, and would take the other clone's newer
# results for this one's.
claim:
	@mkdir -p $(CARGO_TARGET_DIR)
	@echo "$(CURDIR)" | cmp -s - $(CARGO_TARGET_DIR)/.clone || { \
		find src tests benches -name '*.rs' -exec touch {} + && echo "$(CURDIR)" >$(CARGO_TARGET_DIR)/.clone; }
