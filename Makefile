# pems_sync: build, install, and the targets that developers and users call.
# `make help` lists them.

EXTENSION = pems_sync
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" pems_sync.control)

# The install script is these fragments, in this order; each says why it stands where it stands.
SQL_FRAGMENTS = 00_guard 10_catalogue 15_c_functions 20_tables 25_history 30_attach 40_queue \
                60_api 70_views 90_grants 95_dump

# Pure rooms: no PostgreSQL, no I/O; the unit tests link these.
PURE_ROOMS  = json field validate merge limiter retry protocol transition
# Rooms with one side effect each, and the loop that joins them.
OTHER_ROOMS = pems_client credentials settings shmem host api queue roster delivery dispatch worker pems_sync

MODULE_big = pems_sync
OBJS       = $(patsubst %,src/%.o,$(PURE_ROOMS) $(OTHER_ROOMS))
DATA_built = sql/pems_sync--$(EXTVERSION).sql
DATA       = $(wildcard sql/upgrade/pems_sync--*--*.sql)
PROGRAMS   = build/pems-credential build/mock_pems

PG_CPPFLAGS = -DPEMS_SYNC_VERSION='"$(EXTVERSION)"' -D_GNU_SOURCE
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
              -Wno-declaration-after-statement $(if $(WERROR),-Werror)
SHLIB_LINK  = -lcurl -lsodium

# No bitcode: none of these functions is worth inlining into a query.
override with_llvm := no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
include $(PGXS)
endif

sql/pems_sync--$(EXTVERSION).sql: $(patsubst %,sql/%.sql,$(SQL_FRAGMENTS)) pems_sync.control
	cat $(patsubst %,sql/%.sql,$(SQL_FRAGMENTS)) > $@.tmp && mv $@.tmp $@

src/%.o: $(wildcard src/*.h)

# --- programs ---

PROGRAM_CFLAGS = -std=gnu11 -O2 -g -Wall -Wextra $(if $(WERROR),-Werror) \
                 -DPEMS_SYNC_VERSION='"$(EXTVERSION)"' -Isrc

build/pems-credential: $(wildcard bin/*.c bin/*.h) src/credentials.c src/json.c
	@mkdir -p build
	$(CC) $(PROGRAM_CFLAGS) -I$(shell $(PG_CONFIG) --includedir) -o $@ $(filter %.c,$^) -lpq -lsodium

build/mock_pems: $(wildcard test/mock_pems/*.c test/mock_pems/*.h) src/json.c
	@mkdir -p build
	$(CC) $(PROGRAM_CFLAGS) -Itest/mock_pems -o $@ $(filter %.c,$^) -lmicrohttpd -lgnutls -lpthread
