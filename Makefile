# make demo and make test are each the first command on a machine with Python 3.11 or later and nothing else.
# A GPU: make venv EXTRAS=test,cuda

VENV := .venv
EXTRAS := test
PYTHONS := $(PYTHON) python3 python3.13 python3.12 python3.11
PY := $(VENV)/bin/python
STAMP := $(VENV)/installed-$(EXTRAS)
# The demo needs none of the extras, a third of the time to install; an environment that is there will do.
ANY := $(firstword $(wildcard $(VENV)/installed-*) $(VENV)/installed-base)
DEMO := runs/demo
RUN_DEMO := $(PY) run.py --config=configs/lya.py:demo --workdir=$(DEMO)

TIMINGS := inference training matched_filter fits build search memory mgii_inference mgii_scores mgii_fits neighbours resnet50

.PHONY: venv test lint format bench demo clean
.DELETE_ON_ERROR:

venv: $(STAMP)

# The first interpreter that is new enough makes the environment; it is filled again only when pyproject.toml changes.
$(VENV)/installed-%: pyproject.toml
	@for python in $(PYTHONS); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	    python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "make: found no Python 3.11 or later among: $(PYTHONS); install one, or give its path with make PYTHON=PATH" >&2; \
	    exit 1; \
	fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1 && ! $$python -m venv --clear $(VENV); then \
	    echo "make: $$python cannot make a virtual environment; on Debian and Ubuntu install the package python3-venv" >&2; \
	    exit 1; \
	fi
	@echo "Installing lensjax ($*) into $(VENV): a minute or two, only when pyproject.toml changes"
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.$(patsubst %,[%],$(filter-out base,$*))'
	@touch $@

test: $(STAMP)
	@$(PY) -m pytest -q -n auto --dist loadfile

lint: $(STAMP)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/pyright --pythonpath $(PY)

format: $(STAMP)
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

# One after the other: they are timings, and share the machine.
bench: $(STAMP)
	@set -e; for name in $(TIMINGS); do echo "== $$name"; $(PY) benchmarks/$$name.py; done

demo: $(ANY)
	@echo "1/4 Training on mock spectra"
	@$(RUN_DEMO) --mode=train
	@echo "2/4 Evaluating beside the matched filter and the limit that nothing can beat"
	@$(RUN_DEMO) --mode=evaluate
	@echo "3/4 Writing a mock plate in the layout of BOSS"
	@$(RUN_DEMO) --mode=mock
	@echo "4/4 Searching it"
	@$(RUN_DEMO) --mode=search --config.search.input=$(DEMO)/mock
	@echo "Written:"; for file in $(DEMO)/candidates.fits $(DEMO)/scores.parquet $(DEMO)/evaluation.json $(DEMO)/*.png $(DEMO)/*.html; do \
	    if [ -e "$$file" ]; then echo "  $$file"; fi; \
	done

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist *.egg-info
