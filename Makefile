# The two commands of a newcomer are `make demo` and `make test`; both install what is missing,
# build, and run. Everything else is for people who work on Weir.
JOBS ?= $(shell nproc)

.PHONY: demo smollm2 test build configure bench peers format tidy clean install-packages
demo: configure
	cmake --build --preset release -j $(JOBS) --target weir
	build/weir demo

# TEXT: what to measure on, OPTIONS: further options of `weir measure`.
smollm2: configure
	cmake --build --preset release -j $(JOBS) --target weir
	tools/smollm2 $(or $(TEXT),examples/persuasion.txt) $(OPTIONS)

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
	git ls-files '*.h' '*.cpp' | xargs clang-format-19 -i

# Needs clang-tidy-19. Its folder is configured, not built, and compiles every source by itself:
# those that share a batch have no commands of their own. tests/install has a project of its own.
tidy: install-packages
	@mkdir -p build-tidy
	@cmake --preset tidy >build-tidy/configure.log 2>&1 || { cat build-tidy/configure.log; exit 1; }
	git ls-files '*.cpp' ':!tests/install' | \
	  xargs -P $(JOBS) -n 1 clang-tidy-19 -p build-tidy --quiet

clean:
	rm -rf build build-*

install-packages:
	@tools/install-packages
