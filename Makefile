# pems_sync: build, install, and the targets that developers and users call.
# `make help` lists them.  Programs, tests and checks: build-aux/.

EXTENSION  = pems_sync
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" pems_sync.control)

# The install script is these fragments, in this order; each says why it stands where it stands.
SQL_FRAGMENTS = 00_roles 10_catalogue 15_c_functions \
                20_tables_queue 21_tables_records 22_tables_audit 23_tables_statistics 24_tables_setup \
                25_history 26_statistics 27_deletion 28_tables_pull 30_attach_check 31_attach_parts 32_attach_extend \
                33_attach 35_common \
                40_setup 41_order 42_claim 43_record 44_notify 45_failures 46_audit_partitions 47_bases \
                48_pull_store 49_pull_steps \
                50_commit 51_write_sync 52_discard 53_validate 54_retry 55_conflict_paths 56_conflicts 57_resolve 58_rollback \
                59_preview \
                60_credentials 61_pause 62_pull 70_status 71_state 72_endpoints 73_health_problems 74_health 75_audit 76_purge 77_jobs \
                78_versions 79_pulls \
                80_views 82_event_triggers 90_grants 95_dump

# FAILPOINTS=1: a test build, which can be made to die at named places (src/shared/failpoint.c); never for production
SOURCES    = $(sort $(filter-out $(if $(FAILPOINTS),,src/shared/failpoint.c),$(wildcard src/*.c src/*/*.c)))
ROOM_HEADERS = $(wildcard src/*/*.h)
MODULE_big = pems_sync
OBJS       = $(SOURCES:.c=.o)
DATA_built = sql/pems_sync--$(EXTVERSION).sql
DATA       = $(wildcard sql/upgrade/pems_sync--*--*.sql)
# Installed beside psql
SCRIPTS_built = build/pems-credential
EXTRA_CLEAN   = build output_iso tmp_check

PG_CPPFLAGS = -I$(srcdir)/src -DPEMS_SYNC_VERSION='"$(EXTVERSION)"' -D_GNU_SOURCE $(if $(FAILPOINTS),-DPEMS_FAILPOINTS)
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
              -Wno-declaration-after-statement $(if $(WERROR),-Werror) $(SANITIZER_FLAGS)
# A function of ours is meant by its name, also where the server, or a library of it, has one of that name.
SHLIB_LINK  = -lcurl -lsodium -Wl,-Bsymbolic-functions $(SANITIZER_FLAGS)
SANITIZERS  = address,undefined -fno-sanitize-recover=all
# SANITIZE=1: for the tests, see test/support/checked_server.sh
SANITIZER_FLAGS = $(if $(SANITIZE),-fsanitize=$(SANITIZERS) -fno-omit-frame-pointer)
# No bitcode: none of these functions is worth inlining into a query.
override with_llvm := no

.DEFAULT_GOAL := all

# Everything below and PGXS itself must do without pg_config: `make deps`, `make demo` and
# `make test` begin on machines that have none.  (libpq-dev brings one that names a file that
# is not there.)
PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
# Debian has PGXS in the client's package, and the headers in another
ifeq ($(wildcard $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h),)
PGXS :=
endif

include build-aux/installcheck.mk
ifneq ($(PGXS),)
include $(PGXS)
else
all install installcheck:
	@echo 'There is no PostgreSQL to build with ($(PG_CONFIG) names no PGXS, or no server headers); `make deps` installs one.' >&2; exit 1
clean:
	rm -rf *.so src/*.o src/*/*.o sql/pems_sync--$(EXTVERSION).sql results regression.* $(EXTRA_CLEAN)
endif
include build-aux/programs.mk
include build-aux/unit.mk
include build-aux/run.mk

# --- the two that the README begins with; both install what is missing, and leave nothing running ---

.PHONY: demo test
demo:
	@bash demo/run.sh

test:
	@bash test/run.sh

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

$(OBJS): $(ROOM_HEADERS) build/configuration
