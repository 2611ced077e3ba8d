# The two commands of a newcomer are `make demo` and `make test`; both install what is missing,
# build, and run. Everything else is for people who work on Weir.
JOBS ?= $(shell nproc)

.PHONY: demo test build bench format tidy clean install-packages
demo: build
	build/weir demo

test: build
	ctest --preset release -j $(JOBS)

build: install-packages
	@cmake --preset release >build-configure.log 2>&1 || { cat build-configure.log; exit 1; }
	@rm -f build-configure.log
	cmake --build --preset release -j $(JOBS)

bench: build
	build/bench/weir-bench

format:
	git ls-files '*.h' '*.cpp' | xargs clang-format-19 -i

tidy: build
	git ls-files '*.cpp' | xargs clang-tidy-19 -p build --quiet

clean:
	rm -rf build build-*

install-packages:
	@tools/install-packages
