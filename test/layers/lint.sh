# lint.sh: format, static analysis, shell scripts, and the version that stands in several files.
#
# A tool that is not installed is left out, and that is said.
# shellcheck shell=bash

layer_lint()
{
    local check

    run_check lint/version bash "$SOURCE/test/support/check_version.sh"
    for check in format tidy cppcheck shell; do
        if bash "$SOURCE/test/support/lint.sh" available "$check"; then
            run_check "lint/$check" bash "$SOURCE/test/support/lint.sh" "$check"
        else
            say "  --      lint/$check: not installed, left out"
        fi
    done
}
