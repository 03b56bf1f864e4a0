# Start with `make demo` and `make test`. CONTRIBUTING.md describes all targets.

.PHONY: help demo build test unit system prove bench format lint check-binaries clean

help:
	@echo 'make demo     starts a local service behind a gateway and an agent, and prints a curl line that works'
	@echo 'make test     everything: packages, lint, build, unit tests, system tests'
	@echo 'make build    builds .build/release/hopgate and .build/release/hopagent'
	@echo 'make unit     builds and runs the Swift tests'
	@echo 'make system   runs the black-box tests over the built binaries'
	@echo 'make prove    runs all tests, then those that have a long form in it; about two hours'
	@echo 'make bench    measures throughput, CPU time and latency beside nginx and ssh -R'
	@echo 'make format   formats the Swift sources'
	@echo 'make lint     checks the rules for every file'
	@echo 'make clean    removes everything that was built'

demo:
	@scripts/demo

# The steps run one after the other, regardless of -j: each uses all cores, and the first failure ends the run.
test:
	@scripts/deps build test
	@scripts/lint
	@$(MAKE) --no-print-directory unit
	@scripts/check-binaries
	@Tests/System/run
	@echo 'make test: all green'

# One build creates the tests and both products, so that nothing is compiled twice.
unit:
	swift build -c release --build-tests
	@scripts/unit

system: build
	@scripts/deps test
	@Tests/System/run

# Builds only the two programs; `make unit` builds the test programs.
build:
	@scripts/deps build
	swift build -c release --product hopgate
	swift build -c release --product hopagent

# Not part of continuous integration, because it takes about two hours.
prove: test
	HOPGATE_LONG=1 swift test -c release --skip-build --filter \
	    '^(ACMETests\.(Fault|Hostile)|StoreTests\.Simulation|TransportTests\.Random|TunnelTests\.RandomTraffic)Tests'
	HOPGATE_LONG=1 Tests/System/run -m long

bench: build
	@scripts/deps bench
	@Benchmarks/run

format:
	swift format format --in-place --parallel --recursive Package.swift Sources Tests

lint:
	@scripts/lint

check-binaries: build
	@scripts/check-binaries

clean:
	swift package clean
	rm -rf .build/release .build/debug .build/python
