# api.t: the standard functions against their man pages, with rseq and without, and in hardened mode.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

for my $options (subject() eq 'rnalloc' ? ('', 'rseq=0', 'cid=0', 'hardened=1') : ('')) {
    for my $program (sources($FindBin::Bin)) {
        child_tap("$program ($options)", run_program({env => {RNALLOC_OPTIONS => $options}}, bin_dir() . "/api/$program"));
    }
}
done_testing();
