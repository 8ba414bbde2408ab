# points.t: forks at each system call that the library makes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

plan skip_all => 'these programs are linked to rnAlloc' if subject() ne 'rnalloc';

for (['', 400], ['rseq=0', 200]) {
    my ($options, $forks) = @$_;
    my $how = {env => {RNALLOC_OPTIONS => $options}, preload => ''};
    child_tap("fork ($options)", run_program($how, bin_dir() . '/points/fork', $forks));
}
done_testing();
