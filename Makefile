# Two commands are enough: `make run` and `make test`. Set-up happens once, by itself.
#
#   make run   LESSON=01 PROFILE=lesson DATA=real DEVICE=cpu     narrow what runs; all optional
#   make lab                                                     JupyterLab at lesson 00
#   make test                                                    every test; make test-browser: those in a browser
#   make book  PROFILE=lesson                                    the site, in build/book/html
#   make bench BENCH=cifar                                       a measurement; writes benchmarks/results/cifar.json
#   make clean                                                   remove .venv and build/
#
#   PYTHON=python3.12       another interpreter        TORCH_BACKEND=cpu     the small build of torch

PYTHON ?= python3
PROFILE ?= smoke
DATA ?= synthetic
DEVICE ?= auto
LESSON ?=
BIN := .venv/bin
READY := .venv/ready
export UV_COMPILE_BYTECODE := 1
export UV_PYTHON_DOWNLOADS := never
# A lesson's kernel imports a few thousand modules: never do without their byte code.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-browser lab book bench clean constraints setup

run: $(READY)
	@$(BIN)/course run $(LESSON) --profile $(PROFILE) --data $(DATA) --device $(DEVICE)

test: $(READY)
	@$(BIN)/python -m pytest -n 2

test-browser: $(READY)
	@$(BIN)/python -m pytest tests/browser

book: $(READY)
	@$(BIN)/course book --profile $(PROFILE) --data $(DATA) --device $(DEVICE)

lab: $(READY)
	@$(BIN)/jupyter lab notebooks/00_start_here.ipynb

BENCHES := $(filter-out common,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/*.py)))

bench: $(READY)
	$(if $(filter $(BENCH),$(BENCHES)),,$(error name a measurement: make bench BENCH=NAME, NAME one of: $(BENCHES)))
	@$(BIN)/python benchmarks/$(BENCH).py $(BENCH_OPTIONS)

setup: $(READY)

# `--without-pip` and `pip --python`: Debian's python3 comes without ensurepip.
$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv (once; a minute or two, and a download of up to 3 GB) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet uv
	@$(BIN)/python -m uv pip install --quiet --python $(BIN)/python $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) \
	    -e '.[dev,book]' -c constraints.txt
	@touch $(READY)

constraints: $(READY)
	@$(BIN)/python -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	    --upgrade --quiet --no-header --output-file constraints.txt

clean:
	rm -rf .venv build
