# Unit tests and fuzzers: what needs no server, built for the sanitizers.
# A file's test has its name and its folder: src/record/merge.c, test/unit/record/merge_test.c.

SANITIZED      = -std=gnu11 -O1 -g -Wall -Wextra $(if $(WERROR),-Werror) -fno-omit-frame-pointer \
                 -DPEMS_SYNC_VERSION='"$(EXTVERSION)"' -D_GNU_SOURCE -Isrc -Itest/unit

# Every program is linked with all of these.
TESTED_ROOMS   = $(patsubst src/%.c,%,$(wildcard src/record/*.c src/pems/*.c src/http/*.c src/secrets/*.c) $(addprefix src/sending/,limiter.c share.c cursor.c))
TESTED_LIBS    = -lcurl -lsodium -lpthread
UNIT_TESTS     = $(patsubst test/unit/%.c,build/unit/%,$(wildcard test/unit/*/*_test.c))
UNIT_OBJECTS   = $(patsubst %,build/unit/%.o,$(TESTED_ROOMS))
# What several tests of a folder share: test/unit/*/*.c that are no tests, linked into every program, too.
UNIT_HELPERS   = $(patsubst test/%.c,build/%.o,$(filter-out %_test.c,$(wildcard test/unit/*/*.c)))
FUZZ_CC        = clang
FUZZ_SECONDS   = 5
FUZZ_TARGETS   = $(patsubst test/fuzz/%.c,build/fuzz/%,$(wildcard test/fuzz/*_fuzz.c))
FUZZ_OBJECTS   = $(patsubst %,build/fuzz/%.o,$(TESTED_ROOMS))

.PHONY: unit-tests check-unit fuzz-targets check-fuzz fuzz
.SECONDARY: $(UNIT_OBJECTS) $(UNIT_HELPERS) $(FUZZ_OBJECTS) build/unit/unit.o

unit-tests: $(UNIT_TESTS)

check-unit: unit-tests
	@for program in $(UNIT_TESTS); do echo "# $$program" && $$program || exit 1; done

build/unit/%.o: src/%.c $(ROOM_HEADERS) build/configuration
	@mkdir -p $(@D)
	$(CC) $(SANITIZED) -fsanitize=$(SANITIZERS) -c -o $@ $<

build/unit/unit.o $(UNIT_HELPERS): build/unit/%.o: test/unit/%.c $(ROOM_HEADERS) $(wildcard test/unit/*.h test/unit/*/*.h) build/configuration
	@mkdir -p $(@D)
	$(CC) $(SANITIZED) -fsanitize=$(SANITIZERS) -c -o $@ $<

build/unit/%_test: test/unit/%_test.c $(wildcard test/unit/*.h test/unit/*/*.h) build/unit/unit.o $(UNIT_HELPERS) $(UNIT_OBJECTS)
	@mkdir -p $(@D)
	$(CC) $(SANITIZED) -fsanitize=$(SANITIZERS) -o $@ $(filter %.c %.o,$^) $(TESTED_LIBS)

fuzz-targets: $(FUZZ_TARGETS)

check-fuzz: fuzz-targets
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p $$target.corpus && \
		$$target -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$$target. $$target.corpus || exit 1; done

fuzz: FUZZ_SECONDS = 300
fuzz: check-fuzz

build/fuzz/%.o: src/%.c $(ROOM_HEADERS) build/configuration
	@mkdir -p $(@D)
	$(FUZZ_CC) $(SANITIZED) -fsanitize=fuzzer-no-link,$(SANITIZERS) -c -o $@ $<

build/fuzz/%_fuzz: test/fuzz/%_fuzz.c $(FUZZ_OBJECTS)
	$(FUZZ_CC) $(SANITIZED) -fsanitize=fuzzer,$(SANITIZERS) -o $@ $(filter %.c %.o,$^) $(TESTED_LIBS)
