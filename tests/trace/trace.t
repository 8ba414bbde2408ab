# trace.t: rnbench record and replay: a program whose calls are known, the malloc lab's text traces, and damaged ones.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use File::Temp qw(tempdir);
use Test::More;

my $root = "$FindBin::Bin/../..";
my $lib = $ENV{RNALLOC_TEST_LIB} // "$root/build";
my $rnbench = "$lib/rnbench";
plan skip_all => "no $rnbench (make bench)" unless -x $rnbench && -e "$lib/librnrecord.so";
my $dir = tempdir(CLEANUP => 1);

sub spew {
    my ($name, $text) = @_;
    open my $f, '>:raw', "$dir/$name" or die;
    print $f $text;
    close $f;
    return "$dir/$name";
}
sub slurp { open my $f, '<:raw', shift or die; local $/; return scalar <$f> }

# One line on stderr, status 2, nothing on stdout.
sub refused {
    my ($what, $pattern, @command) = @_;
    my $run = run_program({preload => ''}, $rnbench, @command);
    is(ended($run), 'exit 2', "$what: status 2");
    like($run->{err}, qr/\Arnbench: [^\n]*$pattern[^\n]*\n\z/, "$what: one line");
    is($run->{out}, '', "$what: nothing printed");
}

my $known = "$dir/known";
system($ENV{CC} // 'cc', '-O1', '-g', '-fno-builtin', '-pthread', '-o', $known, "$FindBin::Bin/known.c") == 0
    or die 'cc';

for my $how ('', 'kill') {
    my $trace = "$dir/known$how.rnt";
    my $run = run_program({}, $rnbench, 'record', '-o', $trace, '--', $known, length $how ? $how : ());
    is(ended($run), length $how ? 'exit 137' : 'exit 7', "record '$how': the program's status");
    my $printed = run_program({preload => ''}, $rnbench, 'replay', '--print', $trace)->{out};
    my @calls = grep { /\b7\d0\d\d\b/ } split /\n/, $printed;
    my @sizes = map { /(\w+) \d+(?: from \d+)? (70\d\d\d)/ ? "$1 $2" : () } @calls;
    is_deeply(\@sizes, ['malloc 70003', 'calloc 70007', 'aligned 70009', 'realloc 70019',
            'malloc 70027', 'malloc 70001', 'malloc 70051'],
        "record '$how': every call, in order, none of the child's") or diag($printed);
    my %block = map { /(\d+)(?: from \d+)? (70\d\d\d)/ ? ($2 => $1) : () } @calls;
    my ($first, $aligned, $moved, $handed, $back) = @block{70003, 70009, 70019, 70027, 70001};
    like($printed, qr/^0 realloc $moved from $first 70019$/m, "record '$how': realloc knows its block");
    like($printed, qr/^0 aligned $aligned 70009 at 4096$/m, "record '$how': the alignment");
    like($printed, qr/^1 free $handed$/m, "record '$how': a free in another thread");
    like($printed, qr/^0 free $back$/m, "record '$how': and the other way");
    is(() = $printed =~ /^0 free $moved$/mg, 1, "record '$how': freed once, failed realloc left out");
    for my $threads ('as-recorded', '1') {
        my $replay = run_program({}, $rnbench, 'replay', '--json', '--threads', $threads, $trace);
        is(ended($replay), 'exit 0', "replay '$how' $threads") or diag($replay->{err});
        my ($events, $count) = ($replay->{out} =~ /"events": (\d+)/, scalar(() = $printed =~ /\n/g));
        is($events, $count, "replay '$how' $threads: all events");
    }
}
is(scalar(grep { /raw/ } glob("$dir/*")), 0, 'no raw files are left behind');

{
    my ($once, $often) = map { run_program({preload => ''}, $rnbench, 'replay', '--json', '--times', $_, "$dir/known.rnt")->{out} }
        1, 50;
    my ($events) = $once =~ /("events": \d+, "blocks": \d+)/;
    like($often, qr/\Q$events\E/, 'replay --times: the same events and blocks');
    my @live = map { /"peak_live_bytes": (\d+)/ } $once, $often;
    is($live[0], $live[1], 'replay --times: the same live bytes');
    my @peak = map { /"peak_resident_bytes": (\d+)/ } $once, $often;
    cmp_ok($peak[1], '<', $peak[0] + 5 * $live[0], 'replay --times: what was left over is freed in between');
}
system('mkfifo', "$dir/pipe.rnt") == 0 or die 'mkfifo';
refused('record into a pipe', 'not a regular file', 'record', '-o', "$dir/pipe.rnt", '--', $known);
ok(-p "$dir/pipe.rnt", 'record into a pipe: it still is one');
refused('record nothing', 'not a number from 1', 'record', '-o', "$dir/x.rnt", '--limit', '0', '--', $known);
for my $how (['--preload', "$lib/librnalloc.so"], ['--allocator', "rn=$lib/librnalloc.so,RNALLOC_OPTIONS=helper=0"]) {
    my $under = run_program({preload => ''}, $rnbench, 'replay', '--json', @$how, "$dir/known.rnt");
    like($under->{out}, qr{"allocator_object": "[^"]*/librnalloc\.so"}, "replay @$how: under it") or diag($under->{err});
}
is(ended(run_program({preload => ''}, $rnbench, 'replay', "$dir/known.rnt", '--threads', '1', "$dir/known.rnt", '--json')),
   'exit 0', 'replay: options may stand behind the files');
{
    my $full = run_program({preload => ''}, 'sh', '-c', "exec $rnbench replay --print $dir/known.rnt > /dev/full");
    is(ended($full), 'exit 2', 'replay --print to a full disk: status 2');
    like($full->{err}, qr/\Arnbench: cannot write to standard output\n\z/, 'replay --print to a full disk: one line');
}
refused('replay under no allocator', 'is not possible', 'replay', '--allocator', 'nix', "$dir/known.rnt");
refused('replay under what is no library', 'not a shared library', 'replay', '--preload', '/etc/passwd', "$dir/known.rnt");
refused('replay --times 0', 'is not possible', 'replay', '--times', '0', "$dir/known.rnt");

refused('a program that is none', 'No such file', 'record', '-o', "$dir/x.rnt", '--', "$dir/none");
refused('record without a program', 'usage', 'record', '-o', "$dir/x.rnt");
refused('replay of nothing', 'usage', 'replay');
refused('replay of a missing file', 'No such file', 'replay', "$dir/none");
refused('replay under no library', 'No such file', 'replay', '--preload', "$dir/none.so", "$dir/known.rnt");

# Damage. Every cut and, in turn, every byte changed must be seen: the checksum sees to it.
my $whole = slurp("$dir/known.rnt");
for my $length (0, 1, 7, 8, 12, 19, 20, int(length($whole) / 2), length($whole) - 1) {
    refused("cut to $length bytes", 'trace', 'replay', spew('cut.rnt', substr $whole, 0, $length));
}
for my $at (0, 7, 8, 9, 10, 40, length($whole) - 1) {
    my $changed = $whole;
    substr($changed, $at, 1) = chr(ord(substr $changed, $at, 1) ^ 0x11);
    refused("byte $at changed", 'trace', 'replay', spew('changed.rnt', $changed));
}

# Damage that the checksum does not see, since it was made afterwards: the reader's own checks.
sub sealed {
    use integer;
    no warnings 'portable';
    my ($body) = @_;
    my $hash = 0xcbf29ce484222325;
    $hash = ($hash ^ ord) * 0x100000001b3 for split //, $body;
    return $body . pack('q<', $hash);
}
sub trace {
    my ($events, $objects, $threads, @bytes) = @_;
    return sealed('RNTRACE1' . pack('C*', $events, $objects, $threads, 0, @bytes));
}
my $good = spew('good.rnt', trace(2, 1, 1, 0, 16, 4, 1));
is(ended(run_program({preload => ''}, $rnbench, 'replay', $good)), 'exit 0', 'a trace by hand');
refused('a free of nothing', 'never given', 'replay', spew('f.rnt', trace(1, 0, 1, 4, 1)));
refused('a double free', 'not live', 'replay', spew('f.rnt', trace(3, 1, 1, 0, 16, 4, 1, 4, 1)));
refused('an unknown kind', 'no known kind', 'replay', spew('f.rnt', trace(1, 1, 1, 7, 1)));
refused('an unknown thread', 'thread that does not exist', 'replay', spew('f.rnt', trace(1, 1, 1, 8, 5, 1)));
refused('too few events', 'middle of an event', 'replay', spew('f.rnt', trace(3, 1, 1, 0, 16, 4, 1)));
refused('too many events', 'more or less', 'replay', spew('f.rnt', trace(1, 1, 1, 0, 16, 4, 1)));
refused('an absurd size', 'absurdly large', 'replay', spew('f.rnt', trace(1, 1, 1, 0, (0xff) x 8, 1)));
refused('an endless number', 'too long', 'replay', spew('f.rnt', trace(1, 1, 1, 0, (0xff) x 10, 1)));
refused('impossible counts', 'impossible', 'replay', spew('f.rnt', trace(100, 1, 1, 0, 16)));

# The malloc lab's text traces.
my $rep = "20000\n3\n6\n1\na 0 5120\na 1 1280\nr 0 6400\na 2 128\nf 1\nf 0\n";
my $run = run_program({preload => ''}, $rnbench, 'replay', spew('good.rep', $rep));
is(ended($run), 'exit 0', '.rep: played');
like($run->{out}, qr/6 events, 4 blocks.*^  peak live +7808 bytes\n/ms, '.rep: measured');
like($run->{out}, qr/^malloc lab: 1 traces, utilization \d+ %, \d+ Kops\/s; /m, '.rep: summed up');
like($run->{out}, qr/score \d+ \(util\) \+ \d+ \(thru\) = \d+\/100$/m, '.rep: scored');
my %bad = (
    "a 0 5120\n" => 'fewer operations', "a 0 x\n" => 'not a number', "q 0 1\n" => 'none of a, r and f',
    "f 0\n" => 'not live',
    "a 9 1\n" => 'not below', "a 0\n" => 'ends in the middle');
for my $line (sort keys %bad) {
    my $file = spew('bad.rep', "20000\n3\n6\n1\n$line");
    refused(".rep with '" . ($line =~ s/\n//r) . "'", "line \\d+: [^\\n]*$bad{$line}", 'replay', $file);
}
refused('.rep with too much', 'more operations', 'replay', spew('bad.rep', "${rep}a 1 1\n"));
refused('.rep without a header', 'ends in the middle', 'replay', spew('bad.rep', "20000\n"));

for my $shipped (glob "$root/rnbench/traces/*.rnt") {
    my $name = $shipped =~ s{.*/}{}r;
    my $replay = run_program({}, $rnbench, 'replay', '--json', $shipped);
    is(ended($replay), 'exit 0', "shipped $name plays") or diag($replay->{err});
    cmp_ok(-s $shipped, '<', 300 << 10, "shipped $name is small");
}
done_testing;
