# Every target sets up .venv by itself; all that has to be there is Python 3.11 or 3.12 with pip (PYTHON=... picks one).
PYTHON ?= python3
BIN := .venv/bin
CORE := .venv/.core
DEVELOP := .venv/.develop
PLAY := .venv/.play
SITE := .venv/.site
ECOSYSTEM := .venv-ecosystem/.installed
WORKERS ?= 2

.PHONY: demo play test test-fast test-slow test-browser test-ecosystem lint coverage docs install clean

demo: $(CORE)
	$(BIN)/python -m dist4d_env demo --out demo

play: $(PLAY)
	$(BIN)/python -m dist4d_env play

# One thread per worker: more would fight over the same cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not ecosystem"

# What a change is tried on again and again: no linter, no Ray, no training runs, no campaigns over processes.
test-fast: $(DEVELOP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not medium and not ecosystem"

# The wheel in an environment of its own and the site. By file: what a file makes, such as that environment, is made once.
test-slow: $(DEVELOP) docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow

# The pages in a real browser, which is taken from the distribution where there is none.
test-browser: $(DEVELOP)
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -qy chromium; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser

# With the packages that others drive environments with, and with py123d, in an environment of their own: they bring much that
# nothing here needs.
test-ecosystem: $(ECOSYSTEM)
	OMP_NUM_THREADS=1 .venv-ecosystem/bin/python -m pytest -m ecosystem tests/ecosystem

lint: $(DEVELOP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@! command -v node >/dev/null || for script in dist4d_env/evaluation/report/*.js dist4d_env/play/page/*.js; do node --check $$script || exit 1; done
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: $(DEVELOP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not ecosystem" --cov --cov-report=term

docs: $(SITE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(DEVELOP)

$(CORE): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "dist4d_env needs Python 3.11 or 3.12, but $(PYTHON) is `$(PYTHON) --version 2>&1`: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python -a -e .venv/pyvenv.cfg || $(PYTHON) -m venv .venv || $(PYTHON) -m venv --without-pip .venv
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m pip --python $(BIN)/python install pip
	$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e .
	touch $(CORE)

$(DEVELOP): $(CORE)
	$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[test]'
	touch $(DEVELOP)

$(PLAY): $(CORE)
	$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[play]'
	touch $(PLAY)

$(SITE): $(DEVELOP)
	$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[docs]'
	touch $(SITE)

$(ECOSYSTEM): setup.cfg pyproject.toml constraints.txt tests/ecosystem/requirements.txt
	@test -x .venv-ecosystem/bin/python || $(PYTHON) -m venv .venv-ecosystem || \
		{ $(PYTHON) -m venv --without-pip .venv-ecosystem && $(PYTHON) -m pip --python .venv-ecosystem/bin/python install pip; }
	.venv-ecosystem/bin/python -m pip install --progress-bar off -c constraints.txt -e '.[py123d]' -r tests/ecosystem/requirements.txt
	touch $(ECOSYSTEM)

clean:
	rm -rf .venv .venv-ecosystem build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
