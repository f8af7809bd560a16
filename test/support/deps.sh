#!/usr/bin/env bash
# deps.sh: installs what is needed to build, run and test.  `make deps` calls it.
. "$(dirname "$0")/base.sh"
. "$PROJECT/test/support/packages.sh"

forget_surroundings
ensure_packages "${1:-test}"
