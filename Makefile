# Two commands: `make demo` runs a nest and proves it, `make test` passes the tests. Both install what they need.
VENV ?= .venv
PYTEST ?= $(VENV)/bin/python -m pytest
.PHONY: demo test test-fast test-slow check bench fuzz clean

demo:
	@scripts/setup $(VENV)
	@$(VENV)/bin/nestlab up examples/pair.yaml

# A file runs in one worker, its tests in their order: many share one lab. An emulated machine keeps one core busy and
# the labs of one file take at most 4 GiB, which decides how many run at a time.
GUEST_WORKERS ?= $(shell awk -v cores=$$(nproc) '/^MemAvailable/ {n = int($$2 / 4194304)} \
	END {if (n > cores) n = cores; if (n > 2) n = 2; print n < 1 ? 1 : n}' /proc/meminfo)
# A short path for temporary directories: Linux allows 107 bytes for a socket's. Of tests that failed they stay.
test: test-fast
	@scratch=$$(mktemp -d /tmp/nl.XXXXXX) && \
	$(PYTEST) -m "guest and not slow" -n $(GUEST_WORKERS) --dist loadfile --no-loadscope-reorder \
	--basetemp=$$scratch/t && rm -rf $$scratch

# What boots nothing spends two thirds of its time waiting.
FAST_WORKERS ?= $(shell nproc | awk '{print $$1 < 4 ? 2 * $$1 : $$1 < 8 ? 8 : $$1}')
test-fast:
	@scripts/setup $(VENV) dev
	@scratch=$$(mktemp -d /tmp/nl.XXXXXX) && \
	$(PYTEST) -m "not slow and not guest" -n $(FAST_WORKERS) --dist loadfile --basetemp=$$scratch/t && rm -rf $$scratch

test-slow:
	@scripts/setup $(VENV) dev
	@$(PYTEST) -m slow

check:
	@scripts/setup $(VENV) dev
	@VENV=$(VENV) scripts/check

# Made-up input of every kind, minutes: `make fuzz TARGET=tar CASES=100000 SEED=1`. What is found is stored.
SEED ?= 0
CASES ?= 10000
fuzz:
	@scripts/setup $(VENV) dev
	@PYTHONPATH=tests $(VENV)/bin/python -m fuzz $(TARGET) --seed $(SEED) --cases $(CASES)

# Each prints last whether it is within its limit. One that fails does not end the others.
bench:
	@scripts/setup $(VENV) dev
	@failed=; for each in bench/*; do [ -f $$each ] && [ -x $$each ] || continue; \
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $$each || failed="$$failed $$each"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
