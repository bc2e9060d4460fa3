#!/bin/bash
# The gossip core asks libc for memory and nothing else: no socket, clock, thread, file, random.
# gossip_pure.sh LIBRARY
set -euo pipefail
ALLOWED='malloc|calloc|realloc|free|memcpy|memmove|memset|memcmp'
TOOLS='_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|__mem[a-z]*_chk|__(asan|ubsan|sanitizer|gcov|llvm)_.*'

needs=$(nm -u "$1" | awk '$1 == "U" { print $2 }' | sort -u)
has=$(nm --defined-only "$1" | awk 'NF == 3 { print $3 }' | sort -u)
[ -n "$has" ] || { echo "$1 defines nothing"; exit 1; }
bad=$(comm -23 <(echo "$needs") <(echo "$has") | grep -vxE "$ALLOWED|$TOOLS" || true)
[ -z "$bad" ] || {
	echo "$1 must not need:"
	echo "$bad"
	exit 1
}
