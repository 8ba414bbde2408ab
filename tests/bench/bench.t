# bench.t: RnBench under a fake allocator with a known cost, a known leak and known faults, and its command line.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use JSON::PP;
use Test::More;

my $bin = bin_dir() . '/bench';
my $rnbench = $ENV{RNBENCH} // 'build/rnbench';

sub rnbench { return run_program({preload => ''}, $rnbench, @_) }

sub report {
    my (@arguments) = @_;
    my $run = rnbench(@arguments, '--json');
    diag("@arguments: $run->{err}") if ($run->{exit} // -1) != 0;
    return ($run->{exit} // -1) == 0 ? decode_json($run->{out}) : {};
}

sub fake { return ('--allocator', join ',', "fake=$bin/fake.so", @_) }

# A known cost. Other programs may make it longer, never shorter; medians and minima are what is claimed from above. A
# chunk of 4 pairs is much shorter than a CPU's time slice; a minimum over all of ten runs is one chunk left alone.
{
    my ($got, @best);
    while (@best < 10 && !grep { $_ < 36000 } @best) {
        $got = report('--workload', 'pair', '--iters', 96, fake('FAKE_ALLOC_NS=20000', 'FAKE_FREE_NS=10000'));
        push @best, $got->{results}{best_ns_per_pair} // 0;
    }
    is($got->{allocator}, 'fake', 'the report names the allocator');
    like($got->{allocator_object}, qr{/fake\.so$}, 'and its file');
    my ($least) = sort { $a <=> $b } @best;
    cmp_ok($least, '>=', 30000, 'pair: at least the known cost, in every run');
    cmp_ok($least, '<', 36000, 'pair: the best is near the known cost') or diag("@best");

    $got = report('--workload', 'pair', '--iters', 100, fake('FAKE_FAULT=no,such=fault', 'FAKE_ALLOC_NS=20000'));
    cmp_ok($got->{results}{best_ns_per_pair}, '>=', 20000, 'values of settings may have commas');

    $got = report('--workload', 'sequential', '--slots', 1000, '--iters', 4000, '--latency',
                  fake('FAKE_ALLOC_NS=20000', 'FAKE_FREE_NS=5000'));
    my ($alloc, $free) = @{$got->{latency}}{qw(alloc free)};
    is($alloc->{count}, 2000, 'latency: every allocation is counted');
    is($free->{count}, 2000, 'latency: every free is counted');
    cmp_ok($alloc->{p50_ns}, '>=', 20000 * 0.98, 'latency: p50 of alloc is not below the known cost');
    cmp_ok($alloc->{p50_ns}, '<', 22000, 'latency: p50 of alloc is near the known cost');
    cmp_ok($free->{p50_ns}, '>=', 5000 * 0.98, 'latency: p50 of free is not below the known cost');
    cmp_ok($free->{p50_ns}, '<', 5800, 'latency: p50 of free is near the known cost');
    my @quantiles = map { $alloc->{"${_}_ns"} } qw(p50 p90 p99 p99_9 p99_99 max);
    is_deeply(\@quantiles, [sort { $a <=> $b } @quantiles], 'latency: quantiles rise to the largest');
    cmp_ok($got->{latency}{clock_cost_ns}, '<', 1000, 'latency: the cost of the clock is told');
    my $sum = 0;
    $sum += $_->[1] for @{$alloc->{buckets}};
    is($sum, 2000, 'latency: the buckets hold every call');
}

# A known leak: nothing is reused, so resident memory grows by what was allocated.
{
    my $got = report('--workload', 'sequential', '--slots', 1000, '--iters', 20000, '--sizes', 4096, '--touch', fake());
    my $leak = 10000 * (4096 + 16);
    my $grown = $got->{rss_end_bytes} - $got->{rss_before_bytes};
    cmp_ok(abs($grown - $leak), '<', 300_000, 'leak: growth is the known leak') or diag("$grown for $leak");
    cmp_ok($got->{peak_rss_bytes}, '>=', $got->{rss_end_bytes} - 200_000, 'leak: the peak is not below the end');
    cmp_ok(abs($got->{minor_faults} - $leak / 4096), '<', 500, 'leak: each page is one fault');

    my ($few, $many) = map { report('--workload', 'slots', '--slots', $_, '--iters', 1, '--sizes', 64, fake()) }
        1000, 2_000_000;
    my $tables = $many->{own_bytes} - $few->{own_bytes};
    cmp_ok(abs($tables - 1_999_000 * 8), '<', 9000, 'own tables: told to the page') or diag($tables);
    my ($thin, $thick) = map { $_->{peak_rss_bytes} - $_->{own_bytes} } $few, $many;
    cmp_ok(abs($thick - $thin), '<', 500_000, 'own tables: no part of what is left') or diag("$thin, $thick");

    $got = report('--workload', 'sequential', '--slots', 500, '--iters', 2000, '--sizes', '100', '--check');
    is($got->{peak_live_bytes}, 50000, 'check: live bytes at the peak are what was asked for');
    is($got->{live_bytes}, 0, 'check: and none at the end');
    is($got->{checked_blocks}, 1000, 'check: every block was verified');
}

# Known faults. Status 1, one line that says which; without the fault the same run is clean.
my %faults = (
    overlap => ['slots', qr/overlaps a live block/],
    scribble => ['slots', qr/somebody else wrote/],
    misaligned => ['aligned', qr/is not aligned to|aligned_alloc/],
    dirty => ['calloc', qr/is not zero/],
    lost => ['strings', qr/somebody else wrote/],
);
for my $fault (sort keys %faults) {
    my ($workload, $line) = @{$faults{$fault}};
    my @small = ('--workload', $workload, '--iters', 20000, '--check');
    my $run = rnbench(@small, fake("FAKE_FAULT=$fault"));
    is(ended($run), 'exit 1', "$fault under --check: status 1");
    like($run->{err}, qr/\Arnbench: [^\n]*$line[^\n]*\n\z/, "$fault: one line that says so");
    is($run->{out}, '', "$fault: nothing on standard output");
    $run = rnbench(@small, fake());
    is(ended($run), 'exit 0', "$workload under --check without the fault: clean") or diag($run->{err});
}

# Every workload is clean under --check, with the C library and with rnAlloc.
my @listed = map { /^(\S+)/ ? $1 : () } split /\n/, rnbench('--list')->{out};
cmp_ok(scalar @listed, '>=', 20, 'the list has all workloads');
my %small = (
    idle => ['--rounds', 2, '--sleep', 0], release => ['--live', '4M', '--sleep', 0], phase => ['--live', '4M'],
    bulk => ['--rounds', 2, '--objects', 2000], bucket => ['--rounds', 100], larson => ['--rounds', 3, '--iters', 1000],
    large => ['--iters', 60], vectors => ['--iters', 300], waste => ['--live', '4M', '--iters', 3000],
    'false-active' => ['--iters', 300], 'false-passive' => ['--iters', 300], start => ['--iters', 3],
);
(my $library = $rnbench) =~ s{[^/]*$}{librnalloc.so};
for my $workload (@listed) {
    for my $allocator ('malloc', "rn=$library") {
        my @arguments = ('--workload', $workload, '--threads', 4, '--allocator', $allocator,
                         @{$small{$workload} // ['--iters', 20000]});
        push @arguments, '--check' if $workload ne 'start';
        my $run = rnbench(@arguments, '--json');
        ok(defined $run->{exit} && $run->{exit} == 0 && eval { decode_json($run->{out})->{ops} > 0 },
           "@arguments") or diag($run->{err});
    }
}

# --duration ends a run, and the counters are either numbers or said not to be.
{
    my $got = report('--workload', 'slots', '--duration', '0.2', '--counters');
    cmp_ok($got->{total_ns}, '>=', 100e6, 'duration: not much shorter');
    cmp_ok($got->{ops}, '>', 1000, 'duration: and work was done');
    for my $name (qw(instructions cycles cache_misses dtlb_misses)) {
        ok(defined $got->{counters}{$name} || length $got->{counters}{not_counted},
           "$name is counted, or it is said why not");
    }
}

# The help of a workload has what it takes, with defaults, and nothing else.
{
    my $help = rnbench('--workload', 'larson', '--help')->{out};
    like($help, qr/^larson: a server.*^source: Larson/ms, 'help of a workload: what it shows, and its source');
    like($help, qr/^  --slots S .*\(default 1000\)$/m, 'help of a workload: defaults');
    like($help, qr/^  --distribution .*\(default uniform\)$/m, 'help of a workload: default words');
    unlike($help, qr/--stride/, 'help of a workload: not what it does not take');
    my $all = rnbench('--help')->{out};
    like($all, qr/--stride.*--allocator/s, 'help: every option');
    like($all, qr/rnbench record.*rnbench replay/s, 'help: record and replay');
}

# Debian's allocators by name, where they are installed; else one line that names the package.
for my $name (qw(jemalloc tcmalloc mimalloc)) {
    my $run = rnbench('--allocator', "$name,NO_SUCH=setting", '--iters', 100, '--slots', 10, '--json');
    if (ended($run) eq 'exit 0') {
        my $got = decode_json($run->{out});
        is($got->{allocator}, $name, "$name: by name");
        like($got->{allocator_object}, qr{/lib\Q$name\E}, "$name: is proved");
    } else {
        is(ended($run), 'exit 2', "$name: not installed");
        like($run->{err}, qr/\Arnbench: cannot load $name: [^\n]*Debian package lib$name[^\n]*\n\z/, "$name: one line");
    }
}
is(report('--allocator', 'glibc', '--iters', 100)->{allocator}, 'glibc', 'glibc: by name');
{
    my $run = run_program({preload => $library}, $rnbench, '--allocator', 'glibc', '--iters', 100);
    is(ended($run), 'exit 2', 'glibc under a preload: status 2');
    like($run->{err}, qr/glibc did not take effect/, 'glibc under a preload: is found out');
}

# Errors: status 2, one line, nothing on standard output.
my @errors = (
    [['--workload', 'nix'], qr/unknown workload "nix"/],
    [['--nix'], qr/unknown option/],
    [['slots'], qr/is not an option/],
    [['--threads'], qr/needs a value/],
    [['--threads', '0'], qr/is not in 1\.\./],
    [['--threads', '-1'], qr/is not a number/],
    [['--duration', 'long'], qr/is not a number of seconds/],
    [['--duration', '0'], qr/is not in/],
    [['--duration', '0x10'], qr/is not a number of seconds/],
    [['--stride', '3'], qr/does not take it/],
    [['--workload', 'start', '--check'], qr/does not take it/],
    [['--workload', 'producer', '--threads', '3'], qr/even number/],
    [['--check', '--latency'], qr/do not go together/],
    [['--workload', 'start', '--program', '/nix'], qr/cannot start \/nix/],
    [['--allocator', 'nix'], qr/none of malloc, rnalloc/],
    [['--allocator', 'nix,FAKE_ALLOC_NS=1'], qr/none of malloc, rnalloc/],
    [['--allocator', 'nix=/nix.so'], qr/cannot load \/nix\.so/],
    [['--allocator', 'lineage:nix'], qr/cannot load [^\n]*\/lineage\/nix\.so[^\n]*make lineage/],
    [['--allocator', '=/nix.so'], qr/--allocator: a NAME/],
    [['--allocator', 'nix=/etc/passwd'], qr/not a shared library/],
    [['--allocator', "nix=$bin/fake.so,FAKE"], qr/is not VARIABLE=VALUE/],
    [['--allocator', "empty=$bin/empty.so"], qr/empty did not take effect: malloc comes from/],
    [['--workload', 'phase', '--live', '1M', '--sizes', '1M'], qr/does not hold a block/],
);
for my $error (@errors) {
    my ($arguments, $line) = @$error;
    my $run = rnbench(@$arguments);
    is(ended($run), 'exit 2', "@$arguments: status 2");
    like($run->{err}, qr/\Arnbench: [^\n]*$line[^\n]*\n\z/, "@$arguments: one line");
    is($run->{out}, '', "@$arguments: nothing on standard output");
}

# Too little memory: one line as well.
{
    my $limited = run_program({preload => ''}, 'bash', '-c',
                              "ulimit -v 200000; exec $rnbench --workload release --live 1G --sleep 0 --threads 1");
    is(ended($limited), 'exit 2', 'too little memory: status 2');
    like($limited->{err}, qr/\Arnbench: out of memory: [^\n]*\n\z/, 'too little memory: one line');
}

done_testing();
