# Needed beforehand: git, make, sh. `make demo` shows the main job, `make test` runs the tests on all stacks.
.PHONY: demo test test-all test-distributed horovod test-keras test-tf.keras test-tf2 test-tf2.16 lint format venv venv-tf2 readme clean help
PY = .venv/bin/python
# With bytecode, where it is turned off: a process that a test starts compiles the package otherwise, half a second.
QUIET = TF_CPP_MIN_LOG_LEVEL=3 PYTHONWARNINGS=ignore PYTHONDONTWRITEBYTECODE=
# What of `make demo STACK=...`: the environment that chooses the stack, and its Python.
STACK = keras
ENV_keras = TF_KERAS=0
ENV_tf.keras = TF_KERAS=1
ENV_tf2 = TF_KERAS=1 TF_USE_LEGACY_KERAS=1
PY_keras = $(PY)
PY_tf.keras = $(PY)
PY_tf2 = $(TF2)/bin/python
TF2 = .venv-tf2
MKDOCS = NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs

help:
	@echo "make demo [STACK=keras|tf.keras|tf2] | test | test-all | test-distributed | lint | venv | venv-tf2 | clean"
	@echo "make docs | docs-serve | docs-check | docs-pages"

venv:
	@sh tools/venv.sh

venv-tf2:
	@sh tools/venv.sh tf2

demo: $(if $(filter tf2,$(STACK)),venv-tf2,venv)
	@$(ENV_$(STACK)) TF_CPP_MIN_LOG_LEVEL=2 PYTHONWARNINGS=ignore $(PY_$(STACK)) examples/demo.py

# One process a stack, all at once. The third stack takes the newest TensorFlow that a Python of this machine can have;
# where there is none, the two others share all cases.
test: venv
	@if sh tools/venv.sh tf2; then tf2=.venv-tf2; elif sh tools/venv.sh tf2.16; then tf2=.venv-tf2.16; else tf2=; fi; \
	if [ "$$tf2" ]; then stacks="keras tf.keras tf2"; else stacks="keras tf.keras"; fi; \
	$(MAKE) --no-print-directory -j3 -O $$(printf 'test-%s ' $$stacks) TF2=$$tf2 \
		ARGS="--stacks=$$(echo $$stacks | tr ' ' ,) $(ARGS)"

# Also the cases that the stacks share out, each on all of them, and TensorFlow 2.16 beside 2.21.
test-all:
	@$(MAKE) --no-print-directory test ARGS="--all-cases $(ARGS)"
	@$(MAKE) --no-print-directory test-tf2.16 ARGS="--all-cases $(ARGS)"

# Horovod for .venv: built once, in five minutes, then taken from .cache.
horovod: venv
	@sh tools/horovod.sh

# Two processes that talk by Horovod, on both stacks of TensorFlow 1.15.
test-distributed: horovod
	@echo "== Keras 2.3.1, two processes"; $(ENV_keras) $(QUIET) $(PY) -m pytest tests/distributed --horovod --all-cases $(ARGS)
	@echo "== tf.keras, two processes"; $(ENV_tf.keras) $(QUIET) $(PY) -m pytest tests/distributed --horovod --all-cases $(ARGS)

test-keras:
	@echo "== Keras 2.3.1"; $(ENV_keras) $(QUIET) $(PY) -m pytest tests $(ARGS)

test-tf.keras:
	@echo "== tf.keras"; $(ENV_tf.keras) $(QUIET) $(PY) -m pytest tests $(ARGS)

test-tf2:
	@echo "== TensorFlow 2 ($(TF2))"; $(ENV_tf2) $(QUIET) $(PY_tf2) -m pytest tests $(ARGS)

test-tf2.16:
	@sh tools/venv.sh tf2.16
	@$(MAKE) --no-print-directory test-tf2 TF2=.venv-tf2.16

lint: venv
	@$(PY) -m flake8 . && $(PY) -m isort --check --diff . && $(PY) -m black --check -q . && \
		.venv/bin/lint-imports --no-cache && echo "lint: clean"

format: venv
	@$(PY) -m isort -q . && $(PY) -m black -q .

# The tables of techniques in both READMEs, from kexue_keras/catalogue/.
readme: venv
	@$(PY) tools/readme_table.py

.PHONY: docs docs-serve docs-pages docs-check
# The site in both languages, into site/; any fault ends it: broken links, pages missing or not in the navigation.
docs:
	@sh tools/venv.sh docs
	@$(MKDOCS) build --strict

docs-serve:
	@sh tools/venv.sh docs
	@$(MKDOCS) serve

# What of docs/ is made from something else: benchmarks (from benchmarks/results), techniques, the map, pictures.
docs-pages: venv
	@$(QUIET) $(PY) tools/docs_pages.py

# Every page of the site in a browser. Needed beforehand: Chromium (apt-get install chromium fonts-noto-cjk).
docs-check: docs
	@.venv-docs/bin/python tools/check_site.py

clean:
	rm -rf .venv .venv-tf2 .venv-tf2.16 .venv-docs .cache build dist site *.egg-info
