# The two commands of a newcomer are `make demo` and `make test`; both install what is missing,
# build, and run. Everything else is for people who work on Weir.
JOBS ?= $(shell nproc)

.PHONY: demo smollm2 paper results test build configure bench peers docs check check-format check-tidy \
  check-sanitized tidy format clean install-packages install-check-packages
empty :=
space := $(empty) $(empty)

demo: configure
	cmake --build --preset release -j $(JOBS) --target weir
	build/weir demo

# TEXT: what to measure on, OPTIONS: further options of `weir measure`.
smollm2: configure
	cmake --build --preset release -j $(JOBS) --target weir
	tools/smollm2 $(or $(TEXT),examples/persuasion.txt) $(OPTIONS)

# Makes what is missing of the experiments of RESULTS.md, for hours, then takes their numbers; may be
# interrupted and called again. NAMES: some of them (tools/results/results list), WIKITEXT: the
# validation split of WikiText-2 as a text file.
paper: configure
	cmake --build --preset release -j $(JOBS) --target weir
	tools/results/results paper $(NAMES) --wikitext "$(WIKITEXT)"; status=$$?; \
	  tools/results/results collect $(NAMES) && exit $$status

# RESULTS.md and its figures from the collected data; RUNS=runs collects first.
results:
	@tools/install-packages tools/packages-results.txt
	$(if $(RUNS),tools/results/results collect --runs $(RUNS))
	tools/results/results render

test: build
	ctest --preset release -j $(JOBS)

build: configure
	cmake --build --preset release -j $(JOBS)

configure: install-packages
	@mkdir -p build
	@cmake --preset release >build/configure.log 2>&1 || { cat build/configure.log; exit 1; }

# Weir, and its peers where `make peers` has installed them, in turn; writes build/bench/summary.json.
# OPTIONS: of bench/run, e.g. OPTIONS='--rounds 1 --quick --no-peers'.
bench: configure
	cmake --build --preset release -j $(JOBS) --target bench_programs weir
	bench/run $(OPTIONS)

peers:
	bench/peers/install build/peers

format:
	tools/sources '*.h' '*.cpp' | xargs clang-format-19 -i

# What a change has to pass before the tests: formatting, clang-tidy on what has changed since BASE
# (tools/tidy says what that is by default), and the tests of the lower folders under the address
# and undefined-behaviour sanitizers.
check: check-format check-tidy check-sanitized

check-format: install-check-packages
	tools/sources '*.h' '*.cpp' | xargs clang-format-19 --dry-run -Werror

check-tidy: install-check-packages
	JOBS=$(JOBS) tools/tidy

SANITIZED = support ir io passes
check-sanitized: install-packages
	@mkdir -p build-asan
	@cmake --preset asan >build-asan/configure.log 2>&1 || { cat build-asan/configure.log; exit 1; }
	cmake --build --preset asan -j $(JOBS) --target $(SANITIZED:%=test_%)
	ctest --preset asan -j $(JOBS) -R '^($(subst $(space),|,$(SANITIZED)))\.'

# The API reference and the READMEs as pages that need no network: build/docs/html/index.html.
docs:
	@tools/install-packages tools/packages-docs.txt
	@mkdir -p build/docs
	WEIR_VERSION="$$(sed -n 's/^project(weir VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)" doxygen docs/Doxyfile
	@echo "build/docs/html/index.html"

# clang-tidy on all sources.
tidy: install-check-packages
	JOBS=$(JOBS) tools/tidy --all

clean:
	rm -rf build build-*

install-packages:
	@tools/install-packages

install-check-packages: install-packages
	@tools/install-packages tools/packages-check.txt
