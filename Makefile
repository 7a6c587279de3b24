# Python environment of the project; give VENV=... to use another folder.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two processes, each with whole files of tests; give PARALLEL= to run them one after the other.
PARALLEL ?= -n 2 --dist loadfile

.PHONY: help demo test test-all speed study docs lint format clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install -e '.[dev]'
	touch $@

demo: $(STAMP) ## Train, score and compare a small YOLO with and without attention (a few minutes on two cores)
	$(BIN)/yolo-mha compare demo.yaml

test: $(STAMP) ## Run the tests
	$(BIN)/python -m pytest $(PARALLEL) --durations=40 --durations-min=4

test-all: $(STAMP) ## Run all tests, also those that take minutes, on the oldest and newest Ultralytics too
	$(BIN)/python -m pytest $(PARALLEL) -m ''
	$(BIN)/python tests/compatibility.py

speed: $(STAMP) ## Measure time and memory beside other attention modules (about an hour on two idle cores)
	$(BIN)/python benchmarks/speed.py

study: $(STAMP) ## Repeat a study on real data from nothing, such as make study STUDY=hdbpmn (hours; see studies/README.md)
	$(BIN)/python tools/study.py $(STUDY)

docs: $(STAMP) ## Build the site into site/, with links checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Bring the code into style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what the targets made
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache
