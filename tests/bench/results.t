# results.t: what scripts/results makes of measurements that are known: losses first, means, notes, README's block; and
# what it says of bad words, damaged files and signals.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use File::Temp qw(tempdir);
use JSON::PP;
use POSIX ();
use Test::More;

my $rnbench = $ENV{RNBENCH} // 'build/rnbench';
my $scripts = "$FindBin::Bin/../../scripts";
my $dir = tempdir(CLEANUP => 1);
my $machine = {
    'date' => '2026-01-02 03:04 UTC', 'CPU' => 'a CPU, 2 usable', 'memory' => '1 GiB', 'kernel' => 'Linux 6',
    'transparent hugepages' => '[madvise]', 'THP defrag' => '[madvise]', 'load average at the start' => '0',
    'hyperfine' => '1', 'glibc' => 'libc6 1', 'jemalloc' => 'libjemalloc2 2', 'rnAlloc' => 'abc, sha256 def',
};

sub results { return run_program({preload => ''}, "$scripts/results", '--out', $dir, @_) }

sub spew {
    my ($name, $text) = @_;
    open my $file, '>', "$dir/$name" or die "$name: $!";
    print $file $text;
    close $file;
    return "$dir/$name";
}

sub slurp {
    open my $file, '<', "$dir/$_[0]" or return '';
    local $/;
    return scalar <$file>;
}

# Three rounds around a median that is known.
sub runs_of {
    my ($time, $memory) = @_;
    return [map { {
        time => $time * $_, memory => $memory * $_, total_ns => 100, user_ns => 60, system_ns => 40, ops => 10,
        minor_faults => 1, voluntary_switches => 0, involuntary_switches => 0, peak_rss_bytes => 1 << 22,
        rss_before_bytes => 1 << 20, results => {}, utilization => 0.5,
    } } 0.9, 1, 1.2];
}

# Cells by key: [time, memory] of glibc, jemalloc and rnAlloc.
sub part {
    my ($name, %cells) = @_;
    my @runs;
    for my $key (sort keys %cells) {
        my @allocators = (['glibc', 'glibc'], ['jemalloc', 'jemalloc'], ['rnalloc', 'rnAlloc']);
        for my $i (0 .. 2) {
            push @runs, {cell => $key, title => "the $key", arguments => ['--workload', $key], timed => JSON::PP::true,
                         allocator => $allocators[$i][0], allocator_title => $allocators[$i][1],
                         runs => runs_of(@{$cells{$key}[$i]})};
        }
    }
    return spew("$name.json", encode_json({part => $name, quick => JSON::PP::false, rounds => 3, machine => $machine,
                                           peak_live_bytes => {}, runs => \@runs}));
}

part('workloads', 'a-1' => [[100, 10], [80, 20], [120, 9]], 'b-1' => [[10, 4], [20, 8], [5, 4.4]],
     'c-1' => [[10, 4], [20, 8], [10, 4]], 'slots' => [[10, 9], [20, 9], [10, 1]]);
part('traces', 'trace-t' => [[30, 2], [20, 4], [21, 6]]);

my $notes = spew('notes.md', "# About\n\nNo note.\n\n## a-1 time\nThe cause of a.\nTried: much.\n\n"
                 . "## b-1 time, trace-t memory\nFor two.\n");
my $run = results('--render', '--notes', $notes);
is(ended($run), 'exit 0', 'a report from known measurements') or diag($run->{err});
like($run->{err}, qr/a note for "b-1 time", which is no loss/, 'a note without a loss is told');
my $report = slurp('REPORT.md');
my ($lost, $won) = $report =~ /^## Where rnAlloc loses: 3 of 9 rows$(.*)^## Where rnAlloc wins: 2 of 9 rows$(.*)^## Means/ms;
ok(defined $lost, 'losses come first, then wins, then means') or diag($report);
is_deeply([$lost =~ /^\| `([^`]+)` \|/mg], ['trace-t memory', 'a-1 time', 'b-1 memory'],
    'every loss above 1.05, the worst first');
is_deeply([$won =~ /^\| `([^`]+)` \|/mg], ['b-1 time', 'a-1 memory'], 'every win, the clearest first');
like($lost, qr/^\| `a-1 time` \| the a-1 \| 1\.50 \| 120 ns per operation \| 108\.\.144 \| 80\.0 \| jemalloc \|$/m,
    'a row tells ratio, median, spread, best peer and who') or diag($lost);
like($lost, qr/^- `a-1 time` \(1\.50\): The cause of a\. Tried: much\.$/m, 'a note stands below the losses');
like($lost, qr/^- `trace-t memory` \(3\.00\): For two\.$/m, 'a note may be for several rows');
like($lost, qr/^- No cause written down yet: `b-1 memory`$/m, 'a loss without a note is told');
unlike($report, qr/No note/, 'what stands before the first key is no note');

# Means: time 1.5, 0.5, 1, 1 and 1.05; memory 0.9, 1.1, 1 and 3, not that of slots, which does not write.
sub mean { my $product = 1; $product *= $_ for @_; return sprintf '%.3f', $product ** (1 / @_) }
my %means = (
    "RnBench's workloads: time" => [4, mean(1.5, 0.5, 1, 1), 1],
    "RnBench's workloads: memory" => [3, mean(0.9, 1.1, 1), 0],
    'recorded traces: time' => [1, mean(1.05), 0], 'recorded traces: memory' => [1, mean(3), 1],
    'all but memory kept: time' => [5, mean(1.5, 0.5, 1, 1, 1.05), 1],
    'all but memory kept: memory' => [4, mean(0.9, 1.1, 1, 3), 1],
);
for my $name (sort keys %means) {
    my ($count, $mean, $above) = @{$means{$name}};
    like($report, qr/^\| \Q$name\E \| $count \| \Q$mean\E \| [^|]* \| $above \|$/m, "$name: number, mean, rows above 1.20");
}
like($report, qr/2026-01-02 03:04 UTC; a CPU, 2 usable.*THP \[madvise\].*rnAlloc abc/, 'machine, THP, versions, date');
like($report, qr/^- time: 0\.931, goal 1\.05: met; rows above 1\.20: 1, goal 0: not met$/m, 'goals');
ok(length slurp($_), "$_ is written") for qw(workloads.md traces.md workloads.svg);

# --check: silent when all is as the JSON has it, else it names the file.
is(ended(results('--check', '--notes', $notes)), 'exit 0', '--check: nothing differs');
spew('REPORT.md', "$report ");
$run = results('--check', '--notes', $notes);
is(ended($run), 'exit 1', '--check: a changed file is found');
like($run->{err}, qr{^results: [^\n]*REPORT\.md$}m, '--check: and named');

# README's block and the places of the lineage's chapter.
$run = run_program({preload => ''}, 'python3', '-B', '-c', <<'PY', $scripts, $dir);
import sys
sys.path.insert(0, sys.argv[1])
import lineagereport, resultdata, resultreport
from benchlib import Failure
results = resultdata.Results(sys.argv[2])
readme = f"before\n{resultreport.BEGIN}\nold 1.23\n{resultreport.END}\nafter\n"
once = resultreport.with_numbers(readme, results)
print(once == resultreport.with_numbers(once, results), once.startswith("before\n"), once.endswith("\nafter\n"),
      "old" in once, "Of 9 rows rnAlloc loses 3" in once, "| all but memory kept: memory | 4 |" in once)
runs = results.runs["workloads"]
runs.runs["b-1", "jemalloc"] = [{"failed": "out of memory"}]
for text in ("{{time glibc a 1}}", "{{memory rnalloc a 1}}", "{{times rnalloc glibc a 1}}", "{{memories jemalloc glibc a 1}}",
             "{{time jemalloc b 1}}", "{{times jemalloc glibc b 1}}", "{{time nix a 1}}", "{{time glibc a 2}}", "{{nix}}"):
    try:
        print(lineagereport.filled(text, runs))
    except Failure as failure:
        print("failure:", failure)
print("| jemalloc | fails | - |" in lineagereport.filled("{{table time b}}", runs))
print(lineagereport.filled("{{best time a 1}}, {{best time b 1}}", runs))
import resultparts
from benchruns import Runs
for quick in (True, False):
    every = Runs(resultparts.lineage_designs(), resultparts.lineage_cells(quick))
    every.runs = {(cell.key, a.name): [{"time": 2, "memory": 3}] for cell in every.cells for a in every.allocators}
    chapter = lineagereport.filled(lineagereport.TEXT.read_text(), every)
    print("{{" in chapter, chapter.count("\n## "), "No design failed." in chapter)
try:
    resultreport.with_numbers("no marks", results)
except Failure as failure:
    print(failure)
PY
my @lines = split /\n/, $run->{out};
is(shift @lines, 'True True True False True True', "README's block is written, and again the same") or diag($run->{err});
is_deeply([@lines[0 .. 5]], ['100 ns', '9.0 MiB', '1.2', '2.0', 'fails', 'fails'], 'places of the chapter are filled');
like($lines[$_], qr/^failure: lineage-chapter\.md: /, 'a place without a measurement ends it') for 6 .. 8;
is($lines[9], 'True', 'a design that failed is in the table as such');
is($lines[10], '1.5 times that of jemalloc, fails', "rnAlloc is compared with the best of the others, where there is one");
is($lines[$_], 'False 9 True', 'every place of the chapter is filled in both forms') for 11, 12;
like($lines[13] // '', qr/the marks of the numbers/, 'README without marks is told');

# Bad words and damaged files: status 2, one line; nothing is written.
sub refused {
    my ($name, $pattern, @words) = @_;
    my $bad = results((grep { $_ eq '--notes' } @words) ? () : ('--notes', '/dev/null'), @words);
    is(ended($bad), 'exit 2', "$name: status 2");
    like($bad->{err}, qr/\Aresults: [^\n]*$pattern[^\n]*\n\z/, "$name: one line");
    is($bad->{out}, '', "$name: nothing on standard output");
}
refused('an unknown part', 'unknown part "nix"', '--only', 'nix');
refused('no part', 'unknown part ""', '--only', '');
refused('a folder that cannot be', '/proc/nix: ', '--only', 'traces', '--out', '/proc/nix', '--rnbench', $rnbench);
refused('a program that is none', 'cannot run /nix', '--only', 'traces', '--rnbench', '/nix');
refused('a missing allocator', 'no /nix.so', '--allocator', 'nix=/nix.so', '--only', 'traces');
my $whole = slurp('traces.json');
for my $bad ('', '{', '[]', '{"machine": {}}', substr $whole, 0, 300) {
    spew('traces.json', $bad);
    refused('damaged: ' . substr($bad, 0, 15), 'traces\.json is damaged; measure it again', '--render');
}
(my $other = $whole) =~ s/utilization/nix/g;
spew('traces.json', $other);
refused('fields of another version', 'lacks what the report needs', '--render');
spew('traces.json', $whole);
spew('twice.md', "## a\nx\n## a\ny\n");
refused('two notes for a row', 'two notes for "a"', '--render', '--notes', "$dir/twice.md");
like(results('--plan')->{out}, qr/full form.*\bminutes\n  workloads +\d+\.\d min/, 'the plan tells parts and minutes');
my ($minutes) = results('--plan')->{out} =~ /about (\d+) minutes/;
cmp_ok($minutes, '<', 40, 'the full form is planned for less than 40 minutes');
($minutes) = results('--plan', '--quick')->{out} =~ /about (\d+) minutes/;
cmp_ok($minutes, '<=', 5, 'the quick form for 5');

# A part alone; --resume; then a signal in the middle leaves what was there.
my @one = ('--only', 'traces', '--quick', '--rnbench', $rnbench, '--only-allocators', 'glibc', '--notes', $notes);
$run = results(@one);
is(ended($run), 'exit 0', 'one part alone') or diag($run->{err});
my $traces = decode_json(slurp('traces.json'));
is($traces->{part}, 'traces', 'its file');
isnt($traces->{machine}{date}, $machine->{date}, '... has a date of its own');
like(slurp('REPORT.md'), qr/where rnAlloc loses: 2 of 7 rows/i, 'the report is of what can be compared');
is(decode_json(slurp('workloads.json'))->{machine}{date}, $machine->{date}, 'the other part is as it was');
(my $library = $rnbench) =~ s{[^/]*$}{librnalloc.so};
my ($digest) = `sha256sum $library` =~ /^(.{12})/;
my @planned = ('--plan', '--resume', '--quick', '--library', $library, '--only', 'traces,workloads');
like(results(@planned)->{out}, qr/^  workloads .*^  traces /ms, '--resume: parts of another rnAlloc are measured again');
my $before = slurp('traces.json');
$traces->{machine}{rnAlloc} = "abc, sha256 $digest";
spew('traces.json', encode_json($traces));
unlike(results(@planned)->{out}, qr/^  traces /m, '--resume: not what is of this one');
like(results(grep { $_ ne '--quick' } @planned)->{out}, qr/^  traces /m, '--resume: but again in the other form');
spew('traces.json', $before);
# The benchmark that it runs then says that it was started, and waits to be killed.
POSIX::mkfifo("$dir/never", 0600) or die "never: $!";
my $stub = spew('stub', "#!/bin/sh\n: >'$dir/started'\nread nothing <'$dir/never'\n");
chmod 0755, $stub or die "stub: $!";
my $pid = fork // die "fork: $!";
if ($pid == 0) {
    open STDERR, '>', "$dir/said" or die;
    open STDOUT, '>', '/dev/null' or die;
    exec "$scripts/results", '--out', $dir, '--only', 'threads', '--quick', '--rnbench', $stub,
        '--only-allocators', 'glibc' or POSIX::_exit(127);
}
my $ended_early = 0;
for (my $looks = 0; !-e "$dir/started" && !$ended_early && $looks < 2400; $looks++) {
    $ended_early = waitpid($pid, POSIX::WNOHANG()) == $pid;
    select undef, undef, undef, 0.05;
}
ok(!$ended_early, 'a signal: sent amid a measurement') or diag(slurp('said'));
like(slurp('said'), qr/^== threads/m, '... of the part that was asked for');
if (!$ended_early) {
    kill 'TERM', $pid;
    waitpid $pid, 0;
}
is($? >> 8, 2, 'a signal: status 2');
like(slurp('said'), qr/^results: stopped by SIGTERM; finished parts stand, and --resume goes on with the rest\n\z/m,
    'a signal: one line at the end');
ok(!-e "$dir/threads.json", 'a signal: nothing of the part that was stopped');
is(slurp('traces.json'), $before, 'a signal: finished parts stand');
is_deeply([glob "$dir/.unfinished*"], [], 'a signal: no unfinished files');

done_testing();
