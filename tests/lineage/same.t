# same.t: every design of rnbench/lineage, with every option that changes it, passes the tests of the API and of the
# shadow model that rnAlloc passes: the same programs. What is rnAlloc's alone (its own names, options, malloc_trim,
# handlers that interrupt malloc) is in programs of its own, not run here.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

my $tests = "$FindBin::Bin/..";
my $libraries = ($ENV{RNALLOC_TEST_LIB} // 'build') . '/lineage';
my $seed = $ENV{RNALLOC_TEST_SEED} // 1;

# The operations of the shadow model are divided: the plain pagemap-hash makes two system calls for each.
my @every = (map({ ["api/$_"] } sources("$tests/api")), ['env/moments'], ['fork/ways'],
    map({ my ($variant, $divisor) = @$_; ['stress/shadow', $variant, $seed, $divisor] }
        ['calm', 60], ['large', 100], ['signals', 80], ['crowd', 60], ['again', 20]));
# The designs that have statistics answer for them.
my %figures = (buddy => [['figures/mallinfo'], ['fork/generations', 'quiet']]);

open my $variants, '<', "$FindBin::Bin/variants" or die "variants: $!";
for (<$variants>) {
    my ($design, $options) = split;
    my $what = join ' ', $design, split /,/, $options // '';
    my $env = {RNALLOC_TEST => "lineage $what", LINEAGE_OPTIONS => $options // ''};
    for (@every, @{$figures{$design} // []}) {
        my ($program, @arguments) = @$_;
        my $run = run_program({preload => "$libraries/$design.so", env => $env}, bin_dir() . "/$program", @arguments);
        child_tap("$what: $program" . (@arguments ? " $arguments[0]" : ''), $run);
    }
}
done_testing();
