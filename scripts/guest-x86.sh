#!/bin/busybox sh
# guest-x86.sh: process 1 of the machine that scripts/test-x86-system starts. The kernel's command line says what to do:
# PART=cpus or states, DIVISOR (of operations). Prints TAP, and ends the machine.
#
# Each check is a program of tests/ under a state of the kernel; it passes when the program ends well.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /tmp
count=0

# run COMMAND...: the program under the library; its output into /tmp/out, the number of its claims into claims.
run() {
    LD_PRELOAD=/librnalloc.so "$@" >/tmp/out 2>&1
    status=$?
    claims=$(grep -c '^ok' /tmp/out)
    [ "$status" -eq 0 ] && [ "$claims" -gt 0 ] && ! grep -q '^not ok' /tmp/out
}

seconds() {
    cut -d. -f1 /proc/uptime
}

# report PASSED NAME COUNTS: the check's line; the program's own claims are shown when one fails.
report() {
    count=$((count + 1))
    if [ "$1" = yes ]; then
        echo "ok $count - $2 ($3)"
    else
        sed 's/^/# /' /tmp/out
        echo "not ok $count - $2 (status $status, $3)"
    fi
}

# check NAME COMMAND...
check() {
    name=$1
    shift
    begin=$(seconds)
    passed=no
    run "$@" && passed=yes
    report $passed "$name" "$claims claims, $(($(seconds) - begin)) s"
    grep -E '^# (seed|resident)' /tmp/out
}

# claim NAME COMMAND...: the command alone decides.
claim() {
    name=$1
    shift
    count=$((count + 1))
    if "$@"; then echo "ok $count - $name"; else echo "not ok $count - $name"; fi
}

with() { # with OPTIONS COMMAND...
    export RNALLOC_OPTIONS=$1
    shift
    "$@"
    unset RNALLOC_OPTIONS
}

changes() {
    cat /tmp/changes 2>/dev/null || echo 0
}

# Takes CPUs off and on, round and round, until /tmp/stop is there; /tmp/changes counts. Every third stays off for a
# round.
hotplug() {
    changes=0
    while ! [ -e /tmp/stop ]; do
        for online in /sys/devices/system/cpu/cpu[1-9]*/online; do
            [ -e /tmp/stop ] && break
            echo 0 >"$online" && changes=$((changes + 1))
            [ $((changes % 3)) -eq 0 ] || echo 1 >"$online"
            echo $changes >/tmp/changes
        done 2>/dev/null
        all_online
    done
    all_online
}

all_online() {
    for online in /sys/devices/system/cpu/cpu[1-9]*/online; do
        echo 1 >"$online"
    done 2>/dev/null
}

# The same with the cpuset of the cgroup that the program is in.
cpusets() {
    changes=0
    while ! [ -e /tmp/stop ]; do
        for set in 0-63 0-1 5 8-15 62-63 1,3,5,7 0-31; do
            echo $set >/sys/fs/cgroup/set/cpuset.cpus && changes=$((changes + 1))
            echo $changes >/tmp/changes
            usleep 100000
        done 2>/dev/null
    done
}

# during CHANGER NAME COMMAND...: the shadow model, seed after seed, until the changer has made 12 changes while it
# ran: in an emulated machine one takes seconds. If it makes none, the machine comes to its limit.
during() {
    changer=$1
    name=$2
    shift 2
    rm -f /tmp/stop /tmp/changes
    $changer &
    begin=$(seconds)
    runs=0
    passed=yes
    while [ $passed = yes ] && [ "$(changes)" -lt 12 ]; do
        runs=$((runs + 1))
        run "$@" $runs "$DIVISOR" || passed=no
    done
    touch /tmp/stop
    wait
    report $passed "$name" "$runs runs, $(changes) changes, $(($(seconds) - begin)) s"
}

in_cgroup() { # in_cgroup NAME COMMAND...
    sh -c 'echo $$ >/sys/fs/cgroup/'"$1"'/cgroup.procs; shift; exec "$@"' sh "$@"
}

part_cpus() {
    check "mode $MODE" /tests/rseq/mode "$MODE" 50
    for variant in calm migration signals trim; do
        check "$variant, $MODE" /tests/stress/shadow $variant 1 "$DIVISOR"
    done
    check "500 threads, $MODE" /tests/stress/shadow throng 1 "$DIVISOR"
    check "forks, $MODE" /tests/fork/ways
    during hotplug "CPUs going offline and online, $MODE" /tests/stress/shadow migration
    during hotplug "the same, with drains, $MODE" /tests/stress/shadow trim
    during hotplug "the same, with 500 threads, $MODE" /tests/stress/shadow throng
    echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control
    mkdir /sys/fs/cgroup/set
    during cpusets "a cpuset that shrinks, $MODE" in_cgroup set /tests/stress/shadow calm
    during cpusets "a cpuset that shrinks, with drains, $MODE" in_cgroup set /tests/stress/shadow trim
    case $MODE in
    rseq-cid)
        with cid=0 check "cid=0: mode rseq-cpu" /tests/rseq/mode rseq-cpu 50
        with cid=0 during hotplug "cid=0: CPUs going offline and online" /tests/stress/shadow trim
        ;;
    esac
}

# Runs a fill-and-free program and the shadow model with threads and drains.
usual() {
    check "$1: phases" /tests/env/phases "${2:-48}" 2
    check "$1: threads" /tests/stress/shadow trim 5 "$DIVISOR"
}

part_states() {
    thp=/sys/kernel/mm/transparent_hugepage/enabled
    for mode in always madvise never; do
        echo $mode >$thp
        usual "THP $mode"
    done
    echo madvise >$thp
    with hugetlb=2 usual 'hugetlb=2, no pages reserved'
    echo 64 >/proc/sys/vm/nr_hugepages
    with hugetlb=2 usual "hugetlb=2, $(cat /proc/sys/vm/nr_hugepages) pages reserved"
    echo 8 >/proc/sys/vm/nr_hugepages
    with hugetlb=2 usual "hugetlb=2, $(cat /proc/sys/vm/nr_hugepages) pages reserved: they run out"
    echo 0 >/proc/sys/vm/nr_hugepages
    echo 2 >/proc/sys/vm/overcommit_memory
    usual 'overcommit 2'
    check 'overcommit 2: the limit on address space' \
        sh -c 'ulimit -v 131072; exec /tests/env/limit outer 128 50'
    check 'overcommit 2: every call after fork' /tests/fork/ways
    echo 0 >/proc/sys/vm/overcommit_memory
    for most in 150 90; do
        echo $most >/proc/sys/vm/max_map_count
        check "map count $most: phases" /tests/env/phases 48 2
        check "map count $most: threads" /tests/stress/shadow trim 5 "$DIVISOR"
    done
    echo 65530 >/proc/sys/vm/max_map_count
    echo +memory >/sys/fs/cgroup/cgroup.subtree_control
    mkdir /sys/fs/cgroup/small
    echo 96M >/sys/fs/cgroup/small/memory.max
    for mode in madvise always; do
        echo $mode >$thp
        check "memory.max 96 MiB, phases of 56, THP $mode" in_cgroup small /tests/env/phases 56 3
    done
    claim 'memory.max: nothing was killed' grep -qx 'oom_kill 0' /sys/fs/cgroup/small/memory.events
    echo madvise >$thp
    check 'mlockall' /tests/env/locked
    check 'ulimit -v 65536' sh -c 'ulimit -v 65536; exec /tests/env/limit outer 64 40'
}

# What rnMode should say: the kernel gives mm_cid from 6.3 on.
MODE=rseq-cid
[ "$(printf '%s\n6.3\n' "$(uname -r)" | sort -V | head -1)" = 6.3 ] || MODE=rseq-cpu
uname -a | sed 's/^/# /'
echo "# $PART: $(nproc) CPUs, $(grep MemTotal /proc/meminfo)"
part_"$PART"
echo "1..$count"
echo '# the end'
poweroff -f
