# tap.awk: counts what one test program printed.  Prints: passed failed skipped.
#
# Understands TAP and the lines of pg_regress before PostgreSQL 16
# ("test name ... ok 12 ms").  A result inside a subtest (indented) belongs to its parent.
#
#   status   exit status of the program: a failure that no test explains counts as one

BEGIN { planned = -1 }

/^not ok/ {
    seen++
    if (/# *TODO/) skipped++; else failed++
    next
}
/^ok([ \t]|$)/ {
    seen++
    if (/# *SKIP/ || /# *skip/) skipped++; else passed++
    next
}
/^1\.\.0/ { skipped++; planned = 0; next }
/^1\.\.[0-9]+/ { planned = substr($1, 4) + 0; next }
/^Bail out!/ { failed++; next }
/^(test|    ) .* \.\.\. ok( |$)/ { passed++; next }
/^(test|    ) .* \.\.\. FAILED( |$)/ { failed++; next }

END {
    if (planned >= 0 && seen != planned) failed++
    if (status != 0 && failed == 0) failed++
    if (passed + failed + skipped == 0) failed++
    print passed + 0, failed + 0, skipped + 0
}
