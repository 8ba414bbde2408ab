# options.t: RNALLOC_OPTIONS: help, bad names, bad values, a program that may not be told.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use File::Temp qw(tempdir);
use Test::More;

plan skip_all => 'options are rnAlloc\'s own' if subject() ne 'rnalloc';

sub with_options {
    my ($options) = @_;
    return run_program({env => {RNALLOC_OPTIONS => $options}}, '/bin/sh', '-c', 'echo the program goes on');
}

# The program's own output and status are never touched; stderr is what is expected, line by line.
sub says {
    my ($options, @lines) = @_;
    my $run = with_options($options);
    my $shown = length $options > 60 ? substr($options, 0, 60) . '...' : $options;
    is($run->{out}, "the program goes on\n", "\"$shown\": the program goes on");
    is($run->{exit}, 0, "\"$shown\": its status is its own");
    my @said = split /\n/, $run->{err};
    is(scalar @said, scalar @lines, "\"$shown\": " . @lines . ' lines on stderr') or diag($run->{err});
    like($said[$_] // '', $lines[$_], "\"$shown\": line " . ($_ + 1)) for 0 .. $#lines;
}

my %range = (hugepages => '0..1', helper => '0..1', release => '0..1', rseq => '0..1', cid => '0..1', deepbind => '0..1', arm64_rseq => '0..1', hardened => '0..1');
sub unknown { my ($name) = @_; return qr/\Arnalloc: option "\Q$name\E": unknown; ignored\z/ }
sub outside { my ($text, $range) = @_; return qr/\Arnalloc: option "\Q$text\E": not in \Q$range\E; default \d+ kept\z/ }

says('');
says("$_=0") for sort keys %range;
says("$_=1") for sort keys %range;
says("$_=2", outside("$_=2", $range{$_})) for sort keys %range;
says('nosuch=1', unknown('nosuch'));
says('Rseq=1', unknown('Rseq'));
says('rse=1', unknown('rse'));
says('rseqq=1', unknown('rseqq'));
says('nosuch=1,alsonot=2', unknown('nosuch'), unknown('alsonot'));
says("release=$_", outside("release=$_", '0..1')) for '-1', 'yes', '1x', '99999999999999999999', '0x1', '4294967296', '18446744073709551616', ' 1';
says('release=', qr/\Arnalloc: option "release=?": not in 0\.\.1; default 1 kept\z/);
says('release', qr/\Arnalloc: option "release": (?:not in 0\.\.1; default 1 kept|unknown; ignored)\z/);
says('nosuch=1,release=1,cid=7,helper=0', unknown('nosuch'), outside('cid=7', '0..1'));
says(',,release=1,,');
says('hugetlb=3', qr/\Arnalloc: option "hugetlb=3": not in .*; default 0 kept\z/);
says('stats=5', outside('stats=5', '0..1'));

# However long and odd: one line each, no crash.
my $long = 'x' x 5000;
my $run = with_options("$long=1,release=1");
ok($run->{exit} == 0 && $run->{err} =~ /\Arnalloc: option "x+.*\n\z/, 'a name of 5000 letters takes one line');
$run = with_options(join ',', map { "bad$_=1" } 1 .. 300);
ok($run->{exit} == 0 && $run->{err} =~ /option "bad1": unknown; ignored\n/, '300 bad options do not end the program');
$run = with_options("\x01\xff=\n\"");
is($run->{exit}, 0, 'bytes that are no text do not end the program');
like($run->{err}, qr/\Arnalloc: option "\?\?": unknown; ignored\n\z/,
    'they are told in one line, as question marks');
says("a\nb\e[2J=1", qr/\Arnalloc: option "a\?b\?\[2J": unknown; ignored\z/);

$run = with_options('help');
is($run->{out}, "the program goes on\n", 'help: the program goes on');
is($run->{exit}, 0, 'help: its status is its own');
for my $name (qw(hugepages hugetlb pool_kib helper helper_min_mib release rseq cid deepbind hardened stats arm64_rseq)) {
    like($run->{err}, qr/\b$name\b/, "help: names $name");
}
$run = with_options('help,nosuch=1');
like($run->{err}, qr/option "nosuch": unknown; ignored/, 'help does not hide a bad option');

# Statistics come with exit(3); dash, which ends by _exit(2), shows none.
$run = run_program({env => {RNALLOC_OPTIONS => 'stats=1'}}, $^X, '-e', 'print qq(the program goes on\n)');
ok($run->{exit} == 0 && $run->{out} eq "the program goes on\n" && length $run->{err} > 50, 'stats=1 prints statistics to stderr at exit')
    or diag($run->{err});
like($run->{err}, qr/rseq-cid|rseq-cpu|thread/, 'they say the mode');

# A set-user-ID program takes no orders from its caller's environment. The statically linked test is made one.
my $native = bin_dir() . '/native/whole-static';
my $dir = tempdir(CLEANUP => 1);
chmod 0755, $dir;
SKIP: {
    skip 'only root can make a program of another user', 2 if $> != 0;
    system('cp', $native, "$dir/program") == 0 or die;
    chown 65534, 65534, "$dir/program" or die;
    chmod 04755, "$dir/program" or die;
    $run = run_program({preload => '', env => {RNALLOC_OPTIONS => 'help'}}, "$dir/program", 'secure');
    skip "the file system of $dir does not honour set-user-ID", 2 if $run->{out} =~ /^secure 0$/m;
    like($run->{out}, qr/^secure 1$/m, 'the program runs as another user');
    is($run->{err}, '', 'options are not heeded in a set-user-ID program');
    my $plain = run_program({preload => '', env => {RNALLOC_OPTIONS => 'help'}}, $native, 'secure');
    ok(length $plain->{err}, 'the same program heeds them otherwise');
}
done_testing();
