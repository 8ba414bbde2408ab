#!/bin/bash
# lineage.t: every design of rnbench/lineage with every value of its options: its invariants, threads and fork, running
# out of memory, misuse, bad options, and ordinary programs. (What it has to pass like rnAlloc is in same.t.) TAP, for
# prove.
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
make -s -f rnbench/lineage/lineage.mk BUILD="$build" lineage lineage-tests >&2 || { echo "Bail out! no build"; exit 1; }
bin=$build/lineage
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# name, and the options as LINEAGE_OPTIONS has them. The description that the library gives of itself must repeat both.
variants=$(cat tests/lineage/variants)

number=0
result() # status what
{
    number=$((number + 1))
    if [ "$1" -eq 0 ]; then echo "ok $number - $2"; else echo "not ok $number - $2"; fi
}

# Runs a command under the design; its output and messages are in $tmp/out and $tmp/err. The shell's own word on a
# process that was aborted is not wanted.
preloaded()
{
    { timeout 240 env LD_PRELOAD="$bin/$name.so" LINEAGE_OPTIONS="$options" "$@" >"$tmp/out" 2>"$tmp/err"; } \
        2>"$tmp/shell"
    local status=$?
    grep '^#' "$tmp/err"
    return $status
}

# Runs a command as a program of its own name, and compares its output with what it prints without the preload.
program() # name command...
{
    local what=$1
    shift
    [ -e "$tmp/$what" ] || "$@" >"$tmp/$what" 2>/dev/null
    preloaded "$@" && cmp -s "$tmp/$what" "$tmp/out" && [ ! -s "$tmp/err" ] && return
    echo "# $what"
    return 1
}

python_threads='
import threading
def work(n):
    kept = {}
    for i in range(3000):
        kept[i % 500] = str(i) * (i % 40)
    total[n] = sum(map(len, kept.values()))
total = {}
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(total.items()))'

python=/usr/bin/python3
[ -x $python ] || python=python3

programs()
{
    local failed=0
    program bash bash -c 'for i in 1 2 3; do echo $i | cat; done; x=($(ls /)); echo ${#x[@]}' || failed=1
    program ls ls -lR /usr/include/linux || failed=1
    program grep grep -rc size rnbench/lineage || failed=1
    program perl perl -e '$h{$_} = $_ x 9 for 1..5000; print map { "$_ $h{$_}\n" } sort keys %h' || failed=1
    program sort sort --parallel=4 -r rnbench/lineage/common.c || failed=1
    program python3 $python -c "$python_threads" || failed=1
    program cc "${CC:-cc}" -O1 -S -D_GNU_SOURCE rnbench/lineage/heap.c -o - || failed=1
    return $failed
}

# The process is ended by abort, after one line that says who found it.
is_fatal() # misdeed
{
    preloaded "$bin/test-misuse" "$1"
    [ $? -eq 134 ] && grep -q "^lineage $name: free(0x[0-9a-f]*): not a live block$" "$tmp/err"
}

echo "1..$(($(wc -l <<<"$variants") * 4 + 21))"

# The invariants that the designs' comments name, walked over from inside, without a preload.
inside() # test options what
{
    LINEAGE_OPTIONS=$2 timeout 240 "$bin/test-$1" 2>"$tmp/err"
    local status=$?
    head "$tmp/err"
    result $status "$3"
}

inside heap-walk '' 'heap: invariants H1 to H4, every structure'
inside buddy-tree '' 'buddy: invariants B1, B2, B4'
for options in '' freelist=on chunks=on batch=on freelist=on,chunks=on,batch=on; do
    inside pagemap-table "$options" "pagemap-hash $options: invariants P1 to P3"
done

while read -r name options; do
    what="$name${options:+ $options}"
    preloaded "$bin/test-threads" "${what//,/ }"; result $? "$what: threads and fork"
    preloaded "$bin/test-oom" 3000; result $? "$what: out of memory, small blocks"
    preloaded "$bin/test-oom" 700000; result $? "$what: out of memory, large blocks"
    programs; result $? "$what: programs"
done <<<"$variants"

options=
for name in freelist lockfree arenas buddy pagemap-hash; do
    is_fatal double; result $? "$name: double free is found"
done
for name in buddy pagemap-hash; do
    is_fatal interior; result $? "$name: interior pointer is found"
done
name=buddy
preloaded "$bin/test-stats" && grep -q '^total' "$tmp/err"; result $? "buddy: mallinfo2 and malloc_stats"

bad_option() # option message
{
    name=freelist options=$1
    preloaded "$bin/test-threads" "freelist structure=list"; result $? "$1 keeps the default"
    [ "$(grep -v '^#' "$tmp/err")" = "lineage: option \"$1\": $2" ]
    result $? "and is reported in one line"
}
bad_option structure=heap 'no such value; default kept'
bad_option colour=red 'no name=value of freelist; ignored'
bad_option structure 'no name=value of freelist; ignored'
