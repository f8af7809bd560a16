# Programs: pems-credential, which is installed, and mock_pems, the fake PEMS of demo and tests.

PROGRAMS       = build/pems-credential build/mock_pems
PROGRAM_CFLAGS = -std=gnu11 -O2 -g -Wall -Wextra $(if $(WERROR),-Werror) \
                 -DPEMS_SYNC_VERSION='"$(EXTVERSION)"' -Isrc

# pems-credential handles secrets: it is built as Debian builds its programs, or with the same flags elsewhere.
DPKG_FLAGS     = $(shell DEB_BUILD_MAINT_OPTIONS=hardening=+all dpkg-buildflags --get $(1) 2>/dev/null)
HARDENED       = $(if $(shell command -v dpkg-buildflags),$(call DPKG_FLAGS,CPPFLAGS) $(call DPKG_FLAGS,CFLAGS) \
                 $(call DPKG_FLAGS,LDFLAGS),-fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wformat \
                 -Werror=format-security -Wl,-z,relro,-z,now) -fPIE -pie
JSON           = $(wildcard src/record/json*.c) src/record/arena.c src/record/number.c src/record/text.c

.PHONY: programs
programs: $(PROGRAMS)

build/pems-credential: $(wildcard bin/*.c bin/*.h src/secrets/*.c) $(JSON) $(ROOM_HEADERS) build/configuration
	$(CC) $(PROGRAM_CFLAGS) $(HARDENED) -I$(shell $(PG_CONFIG) --includedir) -o $@ $(filter %.c,$^) -lpq -lsodium

build/mock_pems: $(wildcard test/mock_pems/*.c test/mock_pems/*.h) $(JSON) $(ROOM_HEADERS) build/configuration
	$(CC) $(PROGRAM_CFLAGS) -Itest/mock_pems -o $@ $(filter %.c,$^) -lmicrohttpd -lgnutls -lpthread
