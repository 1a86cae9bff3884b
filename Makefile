# Every target sets up .venv by itself; all that has to be there is Python 3.11 or 3.12 with pip (PYTHON=... picks one).
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2

.PHONY: demo test lint install clean

demo: $(STAMP)
	$(BIN)/python -m dist4d_env demo --out demo

# One thread per worker: more would fight over the same cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

lint: $(STAMP)
	$(BIN)/ruff check .
	@! command -v node >/dev/null || node --check dist4d_env/evaluation/report/page.js
	$(BIN)/mypy

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "dist4d_env needs Python 3.11 or 3.12, but $(PYTHON) is `$(PYTHON) --version 2>&1`: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python -a -e .venv/pyvenv.cfg || $(PYTHON) -m venv .venv || $(PYTHON) -m venv --without-pip .venv
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m pip --python $(BIN)/python install pip
	$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[test]'
	touch $(STAMP)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
