# make installcheck: works on any running server that preloads the library.  Files come from test/,
# their expected output from expected/ (test/expected is a link to it).

REGRESS        = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS   = --inputdir=test
ISOLATION      = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test
# These start servers of their own, which root may not, and need a Perl module.
TAP_TESTS     := $(shell perl -MIPC::Run -e 'print $$> ? 1 : ""' 2>/dev/null)
PROVE_TESTS    = $(sort $(wildcard test/t/*.t))

installcheck: export MOCK_PEMS = $(CURDIR)/build/mock_pems
installcheck: export PEMS_CREDENTIAL = $(CURDIR)/build/pems-credential
ifneq ($(TAP_TESTS),)
installcheck: build/pems-credential build/mock_pems
endif
