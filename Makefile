# `make demo` and `make test` do all of their own set-up. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-contract test-thorough test-plans test-looks test-console test-faults bench bench-intake bench-writer bench-commit bench-reads bench-notifications bench-retention bench-reshard bench-ring bench-traces loadtest loadtest-all fuzz check docs format lock clean
BIN := .venv/bin

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## virtual environment, locked packages, RabbitMQ (skips what is there)
	@sh scripts/bootstrap.sh

demo: setup ## the whole pipeline on real parts, with 2,000 real orders (ARGS="--orders N --keep")
	@$(BIN)/postorder demo $(ARGS)

test: setup check ## the default test suite, under 10 minutes
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-thorough: setup ## the properties on 300 examples each instead of 25, minutes
	@$(BIN)/pytest -n 2 --dist worksteal tests/property tests/unit -m hypothesis --hypothesis-profile=thorough --timeout 900 $(ARGS)

test-plans: setup ## the plans of the hot statements at a million orders, about a minute
	@$(BIN)/pytest tests/integration/test_plans.py -m plans $(ARGS)

test-looks: setup ## mails and pages in Chromium: contrast, widths; skipped without it, half a minute
	@$(BIN)/pytest tests/acceptance/test_looks.py -m looks $(ARGS)

test-console: setup ## every task of the console, clicked through in Chromium; skipped without it, 5 minutes; pictures in var/console/
	@$(BIN)/pytest tests/console -m console $(ARGS)

test-contract: setup ## schemathesis against the API and the public listener, some minutes
	@$(BIN)/pytest tests/contract -m contract $(ARGS)

test-faults: setup ## break things while it runs, minutes; writes var/faults/report.json
	@$(BIN)/pytest $(if $(findstring tests/,$(ARGS)),,tests/faults) -m faults $(ARGS)

bench: bench-intake bench-writer bench-commit bench-reads bench-notifications bench-retention bench-reshard bench-ring ## all benchmarks

bench-intake: setup ## what intake costs, minutes; writes var/bench/intake.json and intake.html
	@$(BIN)/python -m loadtest intake $(ARGS)

bench-writer: setup ## the intake transaction alone, by batch size, a minute; writes var/bench/writer.json
	@$(BIN)/python -m loadtest writer

bench-commit: setup ## what a commit costs by what it waits for, a minute; writes var/bench/commit.json
	@$(BIN)/python -m loadtest.commit_bench $(ARGS)

bench-reads: setup ## reads with one slow server, in each mode, 3 minutes; writes var/bench/reads.json
	@$(BIN)/python -m loadtest reads $(ARGS)

bench-notifications: setup ## what sending costs, 25 minutes (ARGS="--snapshot-minutes 1"); writes var/bench/notifications.json
	@$(BIN)/python -m loadtest notifications $(ARGS)

bench-reshard: setup ## a shard comes and goes under load, 3 minutes; writes var/bench/reshard.json
	@$(BIN)/python -m loadtest reshard $(ARGS)

bench-retention: setup ## the size of the tables over 60 days with and without retention, 2 minutes
	@$(BIN)/python -m loadtest retention $(ARGS)

bench-ring: setup ## what the ring costs, half a minute; writes var/bench/ring.json
	@$(BIN)/python -m loadtest ring

bench-traces: setup ## what traces cost, 6 minutes; writes var/bench/traces.json
	@$(BIN)/python -m loadtest.trace_bench $(ARGS)

loadtest: setup ## one load-test scenario (ARGS="steady"; `postorder loadtest list`); writes var/loadtest/
	@$(BIN)/postorder loadtest run $(or $(ARGS),steady)

loadtest-all: setup ## every load-test scenario but the soak, half an hour; writes var/loadtest/
	@status=0; for name in steady burst replay ramp-to-knee ramp-intake drain-sending drain-intake \
	  slow-provider provider-outage shard-down reshard allocator allocator-provider; do \
	  $(BIN)/postorder loadtest run $$name $(ARGS) || status=1; done; exit $$status

fuzz: setup ## throw mutated events at the decoder (ARGS="--seconds 60 --seed N")
	@$(BIN)/python tests/fuzz/fuzz_decoder.py $(ARGS)

check: setup ## lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python scripts/render_configuration.py --check
	@$(BIN)/python scripts/render_contract.py --check
	@$(BIN)/python scripts/render_api.py --check
	@$(BIN)/python scripts/render_metrics.py --check
	@$(BIN)/python scripts/render_dashboards.py --check
	@$(BIN)/python scripts/render_prometheus_rule.py --check

docs: setup ## write the pages that are made from the code
	@$(BIN)/python scripts/render_configuration.py
	@$(BIN)/python scripts/render_contract.py
	@$(BIN)/python scripts/render_api.py
	@$(BIN)/python scripts/render_metrics.py
	@$(BIN)/python scripts/render_dashboards.py
	@$(BIN)/python scripts/render_prometheus_rule.py

build: setup ## the wheel; into dist/
	@$(BIN)/python -m hatchling build -t wheel -d dist

format: setup ## format the code and fix what can be fixed safely
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## resolve requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --all-extras --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --python-version 3.11 --upgrade -o requirements.lock

clean: ## remove what was built (the virtual environment and var/); stop the stack first
	rm -rf .venv var
