# Every verb works from a fresh clone: the first one installs into .venv, once.
#   make book     the whole book, run and built       make test    the quick tests
#   make quick    the same in a few minutes           make serve   look at the book
PYTHON ?= python3
VENV ?= .venv
PROFILE ?= laptop
PORT ?= 8000
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
# glibc gives large blocks back at once and fetches them anew, page by page: it shall not
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 1073741824
export MALLOC_TOP_PAD_ ?= 67108864
NOTEBOOKS := $(wildcard notebooks/*.ipynb)

.PHONY: book quick test slow browser colab bench assets serve lint address clean install
book: install
	@$(PY) book/pipeline.py all --profile $(PROFILE)

quick: install
	@$(PY) book/pipeline.py all --profile quick

test: install
	$(PY) -m pytest --cov=xai_lib --cov-report=term

slow: install
	$(PY) -m pytest -m slow

browser: install
	$(PY) -m pytest -m browser tests/browser tests/test_show_browser.py \
	  tests/test_show_table_browser.py

colab:
	PYTHON="$(PYTHON)" tests/drills/colab

bench: install
	$(PY) tests/benchmarks/bench.py

assets: install
	$(PY) book/pipeline.py assets

serve: install
	@$(PY) book/pipeline.py serve --profile $(PROFILE) --port $(PORT)

lint: install
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PY) -m codespell_lib .
	$(if $(NOTEBOOKS),$(VENV)/bin/nbstripout --keep-id --verify $(NOTEBOOKS))

address: install
	$(PY) book/address.py

clean:
	rm -rf .pytest_cache .ruff_cache .coverage
	[ ! -d _build ] || find _build -mindepth 1 -maxdepth 1 \
	  ! -name results ! -name models -exec rm -rf {} +

install: $(STAMP)

$(STAMP):
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, this is {v}: make PYTHON=python3.12 ...")'
	@echo "install: into $(VENV), once, some minutes"; start=$$(date +%s); \
	  $(PYTHON) -m venv $(VENV) && \
	  $(PY) -m pip install -qq -c constraints.txt -e ".[book,test,peers,cluster]" && \
	  rm -f $(VENV)/.installed-* && touch $@ && \
	  echo "install: $$(( $$(date +%s) - start )) s"
