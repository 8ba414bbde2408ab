# figures.t: what the allocator tells of itself, and what it gives back, with rseq and without, and in hardened mode.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

for my $options (subject() eq 'rnalloc' ? ('', 'rseq=0', 'cid=0', 'hardened=1') : ('')) {
    for my $program (sources($FindBin::Bin)) {
        my $run = run_program({env => {RNALLOC_OPTIONS => $options}}, bin_dir() . "/figures/$program");
        child_tap("$program ($options)", $run);
    }
}
done_testing();
