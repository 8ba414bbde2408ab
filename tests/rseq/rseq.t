# rseq.t: one run per state of rseq: what glibc, the kernel or a sandbox gives or refuses, and threads that lack it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

# In the program's process, before exec: a second one ends it when its memory passes a limit. RLIMIT_AS would not do: the
# library would see it.
sub watch_memory {
    my $program = $$;
    my $watcher = fork // die "fork: $!";
    return if $watcher != 0;
    open STDOUT, '>', '/dev/null';
    while (kill 0, $program) {
        open my $file, '<', "/proc/$program/statm" or last;
        my $resident = (split / /, <$file> // '0 0')[1];
        kill 'KILL', $program if $resident > 1 << 19;
        select undef, undef, undef, 0.2;
    }
    POSIX::_exit(0);
}

my $bin = bin_dir() . '/rseq';
my %off = (GLIBC_TUNABLES => 'glibc.pthread.rseq=0');
# Linux gives a concurrency id from 6.3 on.
my ($major, $minor) = `uname -r` =~ /^(\d+)\.(\d+)/;
my $best = $major > 6 || $major == 6 && $minor >= 3 ? 'rseq-cid' : 'rseq-cpu';

# Name, environment, refusals, the mode that must come of it.
my @states = (
    ['as it comes', {}, [], $best],
    ['cid=0', {RNALLOC_OPTIONS => 'cid=0'}, [], 'rseq-cpu'],
    ['rseq=0', {RNALLOC_OPTIONS => 'rseq=0'}, [], 'thread'],
    ['glibc turned it off', {%off}, [], 'rseq'],
    ['glibc turned it off, cid=0', {%off, RNALLOC_OPTIONS => 'cid=0'}, [], 'rseq-cpu'],
    ['glibc turned it off, rseq=0', {%off, RNALLOC_OPTIONS => 'rseq=0'}, [], 'thread'],
    ['rseq refused: ENOSYS', {}, ['rseq=ENOSYS'], 'thread'],
    ['rseq refused: EPERM', {}, ['rseq=EPERM'], 'thread'],
    ['glibc turned it off, rseq refused: ENOSYS', {%off}, ['rseq=ENOSYS'], 'thread'],
    ['glibc turned it off, rseq refused: EPERM', {%off}, ['rseq=EPERM'], 'thread'],
    ['membarrier refused: ENOSYS', {}, ['membarrier=ENOSYS'], 'any'],
    ['membarrier refused: EPERM', {}, ['membarrier=EPERM'], 'any'],
    ['glibc turned it off, membarrier refused', {%off}, ['membarrier=EPERM'], 'any'],
    ['both refused', {}, ['rseq=ENOSYS', 'membarrier=ENOSYS'], 'thread'],
);
sub state_holds {
    my ($label, $library, $name, $env, $refused, $mode) = @_;
    my @launch = @$refused ? ("$bin/refuse", @$refused, '--') : ();
    my $how = {env => {%$env}, preload => $library};
    if (@launch) {
        $how->{preload} = '';
        $how->{env}{REFUSE_PRELOAD} = $library;
    }
    child_tap("$label$name", run_program($how, @launch, "$bin/mode", $mode));
}
state_holds('', preloaded(), @$_) for @states;
# As `make LIBRSEQ=1` builds it: the constructor of librseq allocates before there is an area of its own.
state_holds('librseq: ', "$ENV{RNALLOC_TEST_LIB}/librseq/librnalloc.so", @$_) for subject() eq 'rnalloc' ? @states[0 .. 8] : ();

# Emulators have no rseq. memcheck would put its own malloc before ours. A limit on memory, since an emulator that keeps a
# record for each page of a mapping would take the whole machine down for one of many TiB (seen).
my $machine = `uname -m` =~ s/\n//r;
my @emulators = (
    ['valgrind --tool=none', 'valgrind', '-q', '--tool=none'],
    ['callgrind', 'valgrind', '-q', '--tool=callgrind', '--callgrind-out-file=/dev/null'],
    ['memcheck', 'valgrind', '-q', '--error-exitcode=9', '--soname-synonyms=somalloc=nouserintercepts'],
    ['qemu-user', "qemu-$machine", '-E', 'LD_PRELOAD=' . preloaded()],
);
for (@emulators) {
    my ($name, $emulator, @options) = @$_;
    my ($path) = grep { -x } map { "$_/$emulator" } split /:/, $ENV{PATH};
    SKIP: {
        skip "$name: there is no $emulator here (scripts/setup test installs it)", 1 if !$path;
        my $how = {env => {}, limits => \&watch_memory};
        $how->{preload} = '' if $name eq 'qemu-user';
        child_tap($name, run_program($how, $path, @options, "$bin/mode", 'thread', 50));
    }
}

for my $env ({}, {%off}, (subject() eq 'rnalloc' ? ({RNALLOC_OPTIONS => 'rseq=0'}, {RNALLOC_OPTIONS => 'cid=0'}) : ())) {
    my $label = join ' ', map { "($_=$env->{$_})" } keys %$env;
    child_tap("$_ children $label", run_program({env => $env}, "$bin/shared_vm", $_)) for qw(vfork clone);
    child_tap("unregistered threads $label", run_program({env => $env}, "$bin/unregistered"));
    child_tap("unregistered, alone $label", run_program({env => $env}, "$bin/unregistered", 'alone'));
    child_tap("amid malloc $label", run_program({env => $env}, "$bin/amid"));
    child_tap("amid malloc, again $label", run_program({env => $env}, "$bin/amid", 'again'));
    child_tap("threads by clone $label", run_program({env => $env}, "$bin/raw_thread"));
    child_tap("sandbox $label", run_program({env => $env}, "$bin/sandbox"));
}
# Refused when all is at work already. Where the calls surely come, they are seen to be refused.
my %number = (EPERM => 1, ENOMEM => 12, ENOSYS => 38);
my @late = map { [$_, 'EPERM'] } qw(membarrier madvise mmap munmap mremap mprotect), 'rseq,sched_getaffinity';
my $all = 'membarrier,madvise,mmap,munmap,mremap,mprotect,rseq,sched_getaffinity';
push @late, map { [$all, $_] } sort keys %number;
# glibc loses memory by other refusals.
@late = (['membarrier', 'EPERM']) if subject() ne 'rnalloc';
my @modes = subject() eq 'rnalloc' ? ({}, {%off}, {RNALLOC_OPTIONS => 'rseq=0'}, {RNALLOC_OPTIONS => 'hardened=1'}) : ({});
for my $env (@modes) {
    my $label = join ' ', map { "($_=$env->{$_})" } keys %$env;
    for (@late) {
        my ($calls, $error) = @$_;
        next if $calls ne $all && exists $env->{RNALLOC_OPTIONS} && $env->{RNALLOC_OPTIONS} eq 'hardened=1';
        my $run = run_program({env => $env}, "$bin/later", $calls, $number{$error});
        child_tap("$calls refused late: $error $label", $run);
        next if subject() ne 'rnalloc' || $run->{out} =~ /# SKIP/;
        my $surely = $calls =~ /madvise/ || $calls eq 'membarrier' && !exists $env->{RNALLOC_OPTIONS};
        $surely ||= $calls =~ /^rseq/ && exists $env->{GLIBC_TUNABLES};
        like($run->{out}, qr/refused: blocks are sound \(\d+ operations, [1-9]/, "$calls $label: refusals took place") if $surely;
    }
}
for my $env (@modes) {
    child_tap(join(' ', 'memory held', map { "($_=$env->{$_})" } keys %$env), run_program({env => $env}, "$bin/later", 'hold'));
}
# The helper alone calls membarrier unasked.
for my $options (subject() eq 'rnalloc' ? ('helper=0', 'helper=0,rseq=0', 'helper=0,cid=0', 'helper=0,hardened=1') : ()) {
    child_tap("no call but the promised ones ($options)", run_program({env => {RNALLOC_OPTIONS => $options}}, "$bin/later", 'kill'));
}
done_testing();
