# Needed beforehand: git, make, sh. `make demo` shows the main job, `make test` runs everything on both stacks.
.PHONY: demo test test-all test-keras test-tf.keras lint format venv readme clean help
PY = .venv/bin/python
PYTEST = TF_CPP_MIN_LOG_LEVEL=3 PYTHONWARNINGS=ignore $(PY) -m pytest

help:
	@echo "make demo | test | test-all | lint | venv | clean"

venv:
	@sh tools/venv.sh

demo: venv
	@TF_CPP_MIN_LOG_LEVEL=2 PYTHONWARNINGS=ignore $(PY) examples/demo.py

# One process a stack, both at once: there are two of them and rarely fewer than two cores.
test: venv
	@$(MAKE) --no-print-directory -j2 -O test-keras test-tf.keras

# Also the cases that the stacks share out, each on all of them.
test-all:
	@$(MAKE) --no-print-directory test ARGS="--all-cases $(ARGS)"

test-keras:
	@echo "== Keras 2.3.1"; TF_KERAS=0 $(PYTEST) tests $(ARGS)

test-tf.keras:
	@echo "== tf.keras"; TF_KERAS=1 $(PYTEST) tests $(ARGS)

lint: venv
	@$(PY) -m flake8 . && $(PY) -m isort --check --diff . && $(PY) -m black --check -q . && echo "lint: clean"

format: venv
	@$(PY) -m isort -q . && $(PY) -m black -q .

# The tables of techniques in both READMEs, from kexue_keras/catalogue.py.
readme: venv
	@$(PY) tools/readme_table.py

clean:
	rm -rf .venv .cache build dist *.egg-info
