#!/bin/sh
# Keeps all cores at their full clock; `governor.sh undo` lets the kernel choose again.
# The setting lasts until the next boot. A virtual machine usually has no such files: then nothing
# is done, and it is said.
set -eu

case "${1:-set}" in
    set) governor=performance ;;
    undo) governor=schedutil ;;
    *) echo "usage: $0 [set|undo]" >&2; exit 2 ;;
esac

found=0
for file in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor; do
    [ -w "$file" ] || continue
    echo "$governor" > "$file"
    found=$((found + 1))
done
echo "$governor on $found cores"
