# Two commands: `make demo` runs a nest and proves it, `make test` passes the tests. Both install what they need.
VENV ?= .venv
PYTEST ?= $(VENV)/bin/python -m pytest
.PHONY: demo test test-fast test-slow check bench clean

demo:
	@scripts/setup $(VENV)
	@$(VENV)/bin/nestlab up examples/pair.yaml

# What boots nothing spends its time waiting, so it runs a file to a worker; machines boot one test at a time.
test: test-fast
	@$(PYTEST) -m "guest and not slow"

# A short path for temporary directories: Linux allows 107 bytes for a socket's. Of tests that failed they stay.
test-fast:
	@scripts/setup $(VENV) dev
	@scratch=$$(mktemp -d /tmp/nl.XXXXXX) && \
	$(PYTEST) -m "not slow and not guest" -n auto --dist loadfile --basetemp=$$scratch/t && rm -rf $$scratch

test-slow:
	@scripts/setup $(VENV) dev
	@$(PYTEST) -m slow

check:
	@scripts/setup $(VENV) dev
	@VENV=$(VENV) scripts/check

bench:
	@scripts/setup $(VENV) dev
	@for each in bench/*; do [ -x $$each ] && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $$each || exit 1; done

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
