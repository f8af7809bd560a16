# pems_sync: build, install, and the targets that developers and users call.
# `make help` lists them.

EXTENSION = pems_sync
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" pems_sync.control)

# The install script is these fragments, in this order; each says why it stands where it stands.
SQL_FRAGMENTS = 00_guard 10_catalogue 15_c_functions 20_tables 25_history 30_attach 40_queue 50_conflict \
                55_rollback 60_api 65_status 67_health 68_audit 70_views 90_grants 95_dump

# Pure rooms: no PostgreSQL, no I/O; the unit tests link these.
PURE_ROOMS  = json field validate merge limiter retry protocol transition address
# Rooms with one side effect each, and the loop that joins them.
OTHER_ROOMS = api_url pems_client credentials settings shmem guard tally host api queue roster delivery check dispatch worker pems_sync

MODULE_big = pems_sync
OBJS       = $(patsubst %,src/%.o,$(PURE_ROOMS) $(OTHER_ROOMS) $(if $(FAILPOINTS),failpoint))
DATA_built = sql/pems_sync--$(EXTVERSION).sql
DATA       = $(wildcard sql/upgrade/pems_sync--*--*.sql)
# Installed beside psql
SCRIPTS_built = build/pems-credential
# For demo and tests only
PROGRAMS   = build/pems-credential build/mock_pems
EXTRA_CLEAN = build output_iso tmp_check

# FAILPOINTS=1: a test build, which can be made to die at named places (src/failpoint.c); never for production
PG_CPPFLAGS = -DPEMS_SYNC_VERSION='"$(EXTVERSION)"' -D_GNU_SOURCE $(if $(FAILPOINTS),-DPEMS_FAILPOINTS)
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
              -Wno-declaration-after-statement $(if $(WERROR),-Werror) $(SANITIZER_FLAGS)
SHLIB_LINK  = -lcurl -lsodium $(SANITIZER_FLAGS)
SANITIZERS  = address,undefined -fno-sanitize-recover=all
# SANITIZE=1: for the tests, see test/support/checked_server.sh
SANITIZER_FLAGS = $(if $(SANITIZE),-fsanitize=$(SANITIZERS) -fno-omit-frame-pointer)

# installcheck: works on any running server that preloads the library.  Files come from test/,
# their expected output from expected/ (test/expected is a link to it).
REGRESS        = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS   = --inputdir=test
ISOLATION      = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test
# These start servers of their own, which root may not, and need a Perl module.
TAP_TESTS     := $(shell perl -MIPC::Run -e 'print $$> ? 1 : ""' 2>/dev/null)
PROVE_TESTS    = $(sort $(wildcard test/t/*.t))

# No bitcode: none of these functions is worth inlining into a query.
override with_llvm := no

# Everything below and PGXS itself must do without pg_config: `make deps`, `make demo` and
# `make test` begin on machines that have none.  (libpq-dev brings one that names a file that
# is not there.)
PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
# Debian has PGXS in the client's package, and the headers in another
ifeq ($(wildcard $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h),)
PGXS :=
endif

.DEFAULT_GOAL := all

ifneq ($(PGXS),)
include $(PGXS)
else
all install installcheck:
	@echo 'There is no PostgreSQL to build with ($(PG_CONFIG) names no PGXS, or no server headers); `make deps` installs one.' >&2; exit 1
clean:
	rm -rf *.so src/*.o sql/pems_sync--$(EXTVERSION).sql results regression.* $(EXTRA_CLEAN)
endif

# --- for people ---

.PHONY: help deps demo test bench soak fuzz programs unit-tests fuzz-targets format \
        kill-points fuzz-worker \
        check-unit check-fuzz check-lint check-format check-version

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

demo:
	@bash demo/run.sh

test:
	@bash test/run.sh

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
	clang-format -i $(wildcard src/*.[ch] bin/*.[ch] test/*/*.[ch])

# --- what depends on what ---

# The install script
sql/pems_sync--$(EXTVERSION).sql: $(patsubst %,sql/%.sql,$(SQL_FRAGMENTS)) pems_sync.control
	cat $(patsubst %,sql/%.sql,$(SQL_FRAGMENTS)) > $@.tmp && mv $@.tmp $@

# Objects of another PostgreSQL, or built with other flags, are built again.
build/configuration: FORCE
	@mkdir -p build
	@echo '$(shell $(PG_CONFIG) --version 2>&1) $(CC) $(CFLAGS) $(PG_CFLAGS) $(PG_CPPFLAGS)' > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
.PHONY: FORCE

HEADERS_OF_ROOMS = $(wildcard src/*.h)
$(OBJS): $(HEADERS_OF_ROOMS) build/configuration

# --- programs ---

PROGRAM_CFLAGS = -std=gnu11 -O2 -g -Wall -Wextra $(if $(WERROR),-Werror) \
                 -DPEMS_SYNC_VERSION='"$(EXTVERSION)"' -Isrc

# pems-credential handles secrets: it is built as Debian builds its programs, or with the same flags elsewhere.
DPKG_FLAGS     = $(shell DEB_BUILD_MAINT_OPTIONS=hardening=+all dpkg-buildflags --get $(1) 2>/dev/null)
HARDENED       = $(if $(shell command -v dpkg-buildflags),$(call DPKG_FLAGS,CPPFLAGS) $(call DPKG_FLAGS,CFLAGS) \
                 $(call DPKG_FLAGS,LDFLAGS),-fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wformat \
                 -Werror=format-security -Wl,-z,relro,-z,now) -fPIE -pie

programs: $(PROGRAMS)

build/pems-credential: $(wildcard bin/*.c bin/*.h) src/credentials.c src/json.c $(HEADERS_OF_ROOMS) build/configuration
	$(CC) $(PROGRAM_CFLAGS) $(HARDENED) -I$(shell $(PG_CONFIG) --includedir) -o $@ $(filter %.c,$^) -lpq -lsodium

build/mock_pems: $(wildcard test/mock_pems/*.c test/mock_pems/*.h) src/json.c src/json.h build/configuration
	$(CC) $(PROGRAM_CFLAGS) -Itest/mock_pems -o $@ $(filter %.c,$^) -lmicrohttpd -lgnutls -lpthread

# --- unit tests and fuzzers: the rooms without a server, built for the sanitizers ---

SANITIZED      = -std=gnu11 -O1 -g -Wall -Wextra $(if $(WERROR),-Werror) -fno-omit-frame-pointer \
                 -DPEMS_SYNC_VERSION='"$(EXTVERSION)"' -Isrc -Itest/unit

# Every program is linked with all of them
TESTED_ROOMS   = $(PURE_ROOMS) api_url pems_client credentials
TESTED_LIBS    = -lcurl -lsodium -lpthread
UNIT_TESTS     = $(patsubst test/unit/%.c,build/unit/%,$(wildcard test/unit/*_test.c))
UNIT_OBJECTS   = $(patsubst %,build/unit/%.o,$(TESTED_ROOMS))

unit-tests: $(UNIT_TESTS)

check-unit: unit-tests
	@for program in $(UNIT_TESTS); do echo "# $$program" && $$program || exit 1; done

build/unit/%.o: src/%.c $(HEADERS_OF_ROOMS) build/configuration
	@mkdir -p build/unit
	$(CC) $(SANITIZED) -D_GNU_SOURCE -fsanitize=$(SANITIZERS) -c -o $@ $<

build/unit/unit.o: test/unit/unit.c test/unit/unit.h build/configuration
	@mkdir -p build/unit
	$(CC) $(SANITIZED) -fsanitize=$(SANITIZERS) -c -o $@ $<

build/unit/%_test: test/unit/%_test.c $(wildcard test/unit/*.h) build/unit/unit.o $(UNIT_OBJECTS)
	$(CC) $(SANITIZED) -fsanitize=$(SANITIZERS) -o $@ $(filter %.c %.o,$^) $(TESTED_LIBS)

FUZZ_CC        = clang
FUZZ_SECONDS   = 5
FUZZ_TARGETS   = $(patsubst test/fuzz/%.c,build/fuzz/%,$(wildcard test/fuzz/*_fuzz.c))
FUZZ_OBJECTS   = $(patsubst %,build/fuzz/%.o,$(TESTED_ROOMS))

fuzz-targets: $(FUZZ_TARGETS)

check-fuzz: fuzz-targets
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p $$target.corpus && \
		$$target -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$$target. $$target.corpus || exit 1; done

fuzz: FUZZ_SECONDS = 300
fuzz: check-fuzz

build/fuzz/%.o: src/%.c $(HEADERS_OF_ROOMS) build/configuration
	@mkdir -p build/fuzz
	$(FUZZ_CC) $(SANITIZED) -D_GNU_SOURCE -fsanitize=fuzzer-no-link,$(SANITIZERS) -c -o $@ $<

build/fuzz/%_fuzz: test/fuzz/%_fuzz.c $(FUZZ_OBJECTS)
	$(FUZZ_CC) $(SANITIZED) -fsanitize=fuzzer,$(SANITIZERS) -o $@ $(filter %.c %.o,$^) $(TESTED_LIBS)

.SECONDARY: $(UNIT_OBJECTS) $(FUZZ_OBJECTS) build/unit/unit.o

# --- installcheck ---

installcheck: export MOCK_PEMS = $(CURDIR)/build/mock_pems
installcheck: export PEMS_CREDENTIAL = $(CURDIR)/build/pems-credential
ifneq ($(TAP_TESTS),)
installcheck: $(PROGRAMS)
endif
