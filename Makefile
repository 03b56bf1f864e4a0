# The two commands to start with: `make demo` and `make test`. CONTRIBUTING.md says more about each.

.PHONY: help demo build test unit system prove bench format lint check-binaries clean

help:
	@echo 'make demo     a local service behind a gateway and an agent, and a curl line that works'
	@echo 'make test     everything: packages, lint, build, unit tests, system tests'
	@echo 'make build    .build/release/hopgate and .build/release/hopagent'
	@echo 'make unit     the Swift tests'
	@echo 'make system   the black-box tests over the built binaries'
	@echo 'make prove    the long form of the proofs: many rounds of faults and races, many seeds, large sizes'
	@echo 'make bench    throughput, CPU and latency beside nginx and ssh -R'
	@echo 'make format   formats the Swift sources'
	@echo 'make lint     what must hold for every file'
	@echo 'make clean    removes everything that was built'

demo:
	@scripts/demo

# One after the other, whatever -j says: each step uses all cores, and the first that fails ends the run.
test:
	@scripts/deps build test
	@scripts/lint
	@$(MAKE) --no-print-directory unit
	@scripts/check-binaries
	@Tests/System/run
	@echo 'make test: all green'

# The tests and both products come out of one build, so nothing is compiled twice.
unit:
	swift build -c release --build-tests
	@scripts/unit

system: build
	@scripts/deps test
	@Tests/System/run

# The two programs and nothing else; the test programs are built by `make unit`.
build:
	@scripts/deps build
	swift build -c release --product hopgate
	swift build -c release --product hopagent

# Outside continuous integration: takes about an hour.
prove: test
	HOPGATE_SEEDS=10000 swift test -c release --skip-build --filter '^StoreTests\.SimulationTests'
	HOPGATE_ROUNDS=50 Tests/System/run -k 'one_cluster or killed_at_any or rounds or cluster'

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
