# `make demo` and `make test` do all the set-up that they need.
PYTHON ?= python3
# On a Pi, picamera2 and libcamera come from the system's own Python packages.
VENV_FLAGS := $(shell grep -qs "Raspberry Pi" /proc/device-tree/model && echo --system-site-packages)
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check

.PHONY: demo test bench lint format typecheck audit clean

demo: .venv-edge/installed  ## the device on a drawn smear; no TensorFlow, no camera; ends with a picture's path
	.venv-edge/bin/hematovision demo --out "$$(mkdir -p runs/demo 2>&- && test -w runs/demo && echo runs/demo || mktemp -d)"

test: .venv/installed  ## all tests
	.venv/bin/python -m pytest

bench: .venv/installed  ## float against quantised models on this machine: runs/bench/report.html
	.venv/bin/hematovision bench compare --out runs/bench --force

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: .venv/installed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

typecheck: .venv/installed
	.venv/bin/mypy

audit: .venv/installed .venv-audit/installed  ## published faults of what is installed
	.venv/bin/python .ci/audit.py .venv-audit/bin/pip-audit .venv/lib/python3*/site-packages

.venv-edge/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV_FLAGS) .venv-edge
	.venv-edge/bin/python $(PIP_INSTALL) --editable '.[edge]'
	touch $@

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV_FLAGS) .venv
	.venv/bin/python $(PIP_INSTALL) --editable '.[edge,train,bench,dev]'
	touch $@

# An environment of its own: what pip-audit needs is neither to be audited nor to hold back what is.
.venv-audit/installed:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python $(PIP_INSTALL) 'pip-audit>=2.7'
	touch $@

clean:
	rm -rf .venv .venv-edge .venv-audit build *.egg-info .mypy_cache .ruff_cache .pytest_cache
