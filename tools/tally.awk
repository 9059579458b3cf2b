# tally.awk: counts results in a log. Prints "passed N", "failed NAME", "skipped NAME: REASON" lines.
#
# Reads two kinds of logs: ctest's LastTest.log with cmocka's output inside (every case counts), and the
# output of a script that prints "FAILED name: why" and "SKIPPED name: reason" lines and ends with
# "N passed, N failed". A program that died without naming a failed case counts as one failure.

function close_program() {
    if (program != "" && died && !named) failed[++n_failed] = program " (ended early)"
    program = ""
}

# ctest: one block per program
/^[0-9]+\/[0-9]+ Testing: /  { close_program(); program = $3; died = named = 0; said = ""; next }
/^Test (Failed|time-out)/    { died = 1; next }
/^Test timeout/              { died = 1; next }
/^\[ RUN      \] /           { said = ""; next }
/^\[       OK \] /           { n_passed++; next }
/^\[  FAILED  \] .*listed/   { next }
/^\[  SKIPPED \] .*listed/   { next }
/^\[=*\] .*test\(s\) run/    { listing = 1; next }
/^\[=*\] .*Running/          { listing = 0; next }
/^\[  FAILED  \] /           { if (!listing) { failed[++n_failed] = program "/" $4; named = 1 } next }
/^\[  SKIPPED \] /           { if (!listing) skipped[++n_skipped] = program "/" $4 ": " (said ? said : "no reason given"); next }

# scripts
/^[0-9]+ passed, [0-9]+ failed/ { n_passed += $1; count_failed = $3; counted = 1; next }
/^FAILED /                      { listed_failed[++n_listed] = substr($0, 8); next }
/^SKIPPED /                     { skipped[++n_skipped] = substr($0, 9); next }
NF                              { said = $0 }

END {
    close_program()
    for (i = 1; i <= n_listed && i <= count_failed; i++) failed[++n_failed] = listed_failed[i]
    for (i = n_listed + 1; i <= count_failed; i++) failed[++n_failed] = "case " i " of those that failed"
    print "passed " n_passed + 0
    for (i = 1; i <= n_failed; i++) print "failed " failed[i]
    for (i = 1; i <= n_skipped; i++) print "skipped " skipped[i]
    exit !(counted || n_passed + n_failed + n_skipped)
}
