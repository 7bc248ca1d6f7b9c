#!/usr/bin/env bash
# Runs pytest. What fails is run once more, one test at a time: much of it keeps real time, and
# what else the machine does in that second is no fault of ours. Twice is a failure. What passed
# only the second time stands in the first summary, to be looked into.
set -uo pipefail

"$@"
status=$?
[ "$status" -eq 1 ] || exit "$status" # 1: tests failed; anything else is no test's fault
echo "== once more, one at a time, what failed above =="
exec "$@" -n 0 --last-failed --last-failed-no-failures none
