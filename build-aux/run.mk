# For people: what is run from the command line; `make demo` and `make test` are in the Makefile.

.PHONY: help deps soak bench kill-points fuzz-worker check-lint check-format check-version format

help:
	@echo 'make              build the extension and pems-credential'
	@echo 'make install      put them into the PostgreSQL that PG_CONFIG names'
	@echo 'make demo         edits going from SQL into a fake PEMS; installs what is needed'
	@echo 'make test         all tests; installs what is needed; ONLY=unit,fuzz,regress,isolation,pgtap,tap,lint'
	@echo 'make kill-points  1000 random kills of worker and server in one run; KILL_POINTS=n'
	@echo 'make fuzz-worker  100000 hostile answers to a living worker; FUZZ_RESPONSES=n SEED=42'
	@echo 'make soak         edits, faults, crashes and a second worker at random, then the checker; make soak SECONDS=3600 SEED=42'
	@echo 'make deps         install the packages that build and tests need (Debian, Ubuntu)'
	@echo 'make bench        the numbers of docs/PERFORMANCE.md, beside other queues; ONLY=drain,latency for parts'
	@echo 'make installcheck tests on a running server that preloads the library'
	@echo 'make check-unit   unit tests, under the sanitizers'
	@echo 'make check-fuzz   fuzzers, a few seconds each; make fuzz FUZZ_SECONDS=600 longer'
	@echo 'make check-lint   format, clang-tidy, cppcheck, shellcheck; check-format and check-version alone'
	@echo 'make format       format the C sources'
	@echo 'make clean        remove what was built'

deps:
	@bash test/support/deps.sh

soak:
	@bash test/soak.sh $(or $(SECONDS),600)

bench:
	@bash bench/run.sh

kill-points:
	@bash test/kill_points.sh $(KILL_POINTS)

fuzz-worker:
	@FUZZ_RESPONSES=$(or $(FUZZ_RESPONSES),100000) ONLY=tap TAP_FILES=097_fuzz_worker bash test/run.sh

check-lint:
	@bash test/support/lint.sh

check-format:
	@bash test/support/lint.sh format

check-version:
	@bash test/support/check_version.sh

format:
	clang-format -i $(wildcard src/*.[ch] src/*/*.[ch] bin/*.[ch] test/*/*.[ch] test/unit/*/*.[ch])
