# From a fresh clone: `make demo`, `make test`. All that is made lies in .venv/ and build/, but for the
# pages that Sphinx generates in docs/, which git ignores.
PYTHON ?= python3
VENV ?= .venv
BUILD ?= build/make
PYTEST_FLAGS ?=
DOCS_FLAGS ?=
CTEST_FLAGS ?=

bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check
cpp := $(shell find src tests/cpp tests/fuzz tests/package benchmarks examples/embedded \
	-name '*.cpp' -o -name '*.c' -o -name '*.h' -o -name '*.hpp' 2>/dev/null)
sources := pyproject.toml CMakeLists.txt $(wildcard fastrnn/*.pxd fastrnn/*.pyx) $(cpp)

.PHONY: help demo test build docs lint lint-python lint-types lint-cpp format clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo     train a small character model for about a minute and sample from it'
	@echo 'make test     run the test suite'
	@echo 'make build    (re)build what changed; Python files need no rebuild'
	@echo 'make docs     build the documentation, and run its examples, into build/docs'
	@echo 'make lint     ruff, mypy and clang-format as CI runs them; make format repairs layout'
	@echo 'make clean    remove all that was made'
	@echo 'Another Python or compiler: make clean, then make test PYTHON=python3.12 CXX=clang++'

demo: $(VENV)/with-train
	@$(bin)/python examples/demo.py

build: $(VENV)/with-train

test: $(VENV)/with-test
	@$(bin)/cmake -DFASTRNN_BUILD_TESTS=ON $(BUILD) >/dev/null
	@$(bin)/cmake --build $(BUILD)
	@$(bin)/ctest --test-dir $(BUILD) --output-on-failure $(CTEST_FLAGS)
	@FASTRNN_C_LIBRARY=$(abspath $(BUILD))/libfastrnn.so \
		$(bin)/python -m pytest -n 2 --dist worksteal $(PYTEST_FLAGS)

docs: $(VENV)/with-docs
	@$(bin)/python -m sphinx --fail-on-warning --keep-going --quiet $(DOCS_FLAGS) docs build/docs
	@echo 'Open build/docs/index.html'

lint: lint-python lint-types lint-cpp
lint-python: $(VENV)/with-dev
	$(bin)/ruff check
	$(bin)/ruff format --check
lint-types: $(VENV)/with-dev
	$(bin)/mypy
lint-cpp: $(VENV)/with-dev
	$(bin)/clang-format --dry-run -Werror $(cpp)

format: $(VENV)/with-dev
	$(bin)/ruff check --fix
	$(bin)/ruff format
	$(bin)/clang-format -i $(cpp)

clean:
	rm -rf $(VENV) build dist *.egg-info docs/gallery docs/reference/generated

# An editable install with one of the extras of pyproject.toml. The build tools live in the
# environment and the build folder stays, so that a rebuild compiles only what changed.
$(VENV)/with-%: $(VENV)/tools $(sources)
	@echo 'Building fastrnn (the first time takes a minute or two) ...'
	@SKBUILD_BUILD_DIR=$(BUILD) PATH="$(abspath $(bin)):$$PATH" \
		$(pip) install -qq --no-build-isolation -e '.[$*]'
	@touch $@

# The error stops make before it starts anything, with that one line and status 2.
$(VENV)/tools:
	$(eval problem := $(shell sh tools/prerequisites.sh $(PYTHON) \
		$(if $(filter-out default,$(origin CXX)),$(CXX)) 2>&1))$(if $(problem),$(error $(problem)))
	@echo 'Making $(VENV) ...'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(pip) install -qq cmake ninja \
		$$(sed -n 's/^requires = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '",')
	@touch $@
