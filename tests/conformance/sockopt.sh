#!/bin/bash
# sockopt.sh [SUBSTRING] - every socket option in every state natively and under `appswitch run`,
# compared line by line. What may differ is in sockopt.differences. SUBSTRING: only these cases.
# shellcheck source-path=SCRIPTDIR/../lib
. "${0%/*}/../lib/lib.sh"
# shellcheck source-path=SCRIPTDIR
. "$HERE/lib/table.sh"
compare_table sockopt_table "$HERE/sockopt.differences" "$@"
