#!/bin/bash
# errno.sh [SUBSTRING] - the table (call, state) -> result natively and under `appswitch run`,
# compared line by line. What may differ is in errno.differences. SUBSTRING: only these cases.
# Natively: in a fresh network namespace with the same addresses on lo.
# shellcheck source-path=SCRIPTDIR/../lib
. "${0%/*}/../lib/lib.sh"
# shellcheck source-path=SCRIPTDIR
. "$HERE/lib/table.sh"
compare_table errno_table "$HERE/errno.differences" "$@"
