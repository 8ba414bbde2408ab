# scripts.t: the scripts around RnBench: what they say when something is missing, and that pictures are well-formed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use File::Temp qw(tempdir);
use JSON::PP;
use List::Util qw(min);
use Test::More;

my $bin = bin_dir() . '/bench';
my $rnbench = $ENV{RNBENCH} // 'build/rnbench';
my $scripts = "$FindBin::Bin/../../scripts";
my $dir = tempdir(CLEANUP => 1);
my @common = ('--rnbench', $rnbench);

sub script { my ($name, @arguments) = @_; return run_program({preload => ''}, "$scripts/$name", @arguments) }

# Errors: status 2 and one line, nothing written.
my @errors = (
    [['bench', '--allocator', 'nix'], qr/--allocator nix: one of/],
    [['bench', '--allocator', 'lineage:nix'], qr/run make lineage/],
    [['bench', '--allocator', 'nix=/nix.so'], qr/no \/nix\.so/],
    [['bench', '--allocator', 'glibc', '--allocator', 'glibc'], qr/twice/],
    [['bench', '--allocator', 'glibc', '--workload', 'nix'], qr/unknown workload "nix"/],
    [['bench', '--allocator', 'glibc', '--base', 'nix'], qr/--base: nix/],
    [['bench', '--allocator', "fake=$bin/fake.so,FAKE"], qr/is not VARIABLE=VALUE/],
    [['bench', '--allocator', "empty=$bin/empty.so"], qr/empty did not take effect: malloc came from/],
    [['bench', '--allocator', 'glibc', '--nix'], qr/unrecognized arguments/],
    [['profile', 'nix', '--allocator', 'glibc', '--callgrind'], qr/unknown workload "nix"/],
    [['programs', '--program', 'nix', '--out', "$dir/nothing"], qr/unknown program "nix"|cannot run|missing/],
    [['bench', '--allocator', 'glibc', '--out', '/proc/nix'], qr/\/proc\/nix: /],
    [['results', '--allocator', 'nix', '--out', "$dir/nothing"], qr/--allocator nix/],
);
for my $error (@errors) {
    my ($words, $line) = @$error;
    my ($name, @rest) = @$words;
    my $run = script($name, @rest, @common);
    is(ended($run), 'exit 2', "@$words: status 2");
    like($run->{err}, qr/\A$name: [^\n]*$line[^\n]*\n\z/, "@$words: one line");
    is($run->{out}, '', "@$words: nothing on standard output");
}
ok(!-e "$dir/nothing", 'nothing was written');

# A comparison of allocators with known costs: other programs may make a run longer, never shorter, and the table says
# what the runs say.
{
    my @fakes = map { ('--allocator', "cost$_=$bin/fake.so,FAKE_ALLOC_NS=$_") } 50000, 150000;
    my $run = script('bench', @common, '--rounds', 7, '--workload', 'sequential', @fakes, '--out', $dir,
                     '--', '--iters', 8, '--slots', 4);
    is(ended($run), 'exit 0', 'bench runs two fakes') or diag($run->{err});
    open my $file, '<', "$dir/bench.json" or die;
    my $runs = decode_json(do { local $/; <$file> })->{runs};
    my %least = map { ($_->{allocator} => min(map { $_->{time} } @{$_->{runs}})) } @$runs;
    is(scalar @{$runs->[0]{runs}}, 7, 'every round is kept');
    cmp_ok($least{"cost$_"}, '>=', 0.9 * $_ / 2, "cost$_: no run is faster than the known cost of half its operations")
        for 50000, 150000;
    my %median = map { ($_->{allocator} => (sort { $a <=> $b } map { $_->{time} } @{$_->{runs}})[3]) } @$runs;
    my $ratio = sprintf '%.2f', $median{cost150000} / $median{cost50000};
    open my $table, '<', "$dir/bench.md" or die;
    my $text = do { local $/; <$table> };
    my $cell = qr/[*]*[\d.,]+[*]* \([\d.,]+\)/;
    like($text, qr/^\| sequential \| (\*\*)?[\d.,]+(\*\*)? \([\d.,]+\), 1\.00 \| $cell, \Q$ratio\E \|$/m,
         'the table has the ratio of the medians');
}

# Stacks as perf script prints them.
{
    my $perf = join "\n", 'rnbench ', '  1a malloc+0x10', '  2b slots_body+0x20', '  3c main', '',
        'rnbench ', '  1a free', '  2b slots_body', '  3c main', '', '';
    open my $file, '>', "$dir/perf.txt" or die;
    print $file $perf;
    close $file;
    my $run = run_program({preload => ''}, 'python3', '-B', '-c', <<'PY', $scripts, "$dir/perf.txt");
import sys, xml.etree.ElementTree as tree
sys.path.insert(0, sys.argv[1])
import flamegraph, svgchart
counts = flamegraph.folded(open(sys.argv[2]).read())
print(sorted((";".join(stack), count) for stack, count in counts.items()))
picture = flamegraph.svg(counts, "a <title> & more")
titles = [node.text for node in tree.fromstring(picture).iter("{http://www.w3.org/2000/svg}title")]
print("slots_body: 2 samples, 100.00 %" in titles, "malloc: 1 samples, 50.00 %" in titles)
names = ["a & b", "c"]
tree.fromstring(svgchart.bars("t", names, [("x", [("r", {"a & b": 1, "c": 9})]), ("y", [("r", {"c": None})])]))
tree.fromstring(svgchart.lines("t", names, [("x", [1, 2], True, {"a & b": [1, 1000], "c": [None, 0]}),
                                           ("y", [1, 2], False, {"c": [0.5, 3]})]))
print("drawn")
PY
    my $stacks = "[('rnbench;main;slots_body;free', 1), ('rnbench;main;slots_body;malloc', 1)]";
    is($run->{out}, "$stacks\nTrue True\ndrawn\n", 'stacks are folded and drawn') or diag($run->{err});
}

done_testing();
