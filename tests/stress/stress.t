# stress.t: the shadow-model stress in all its variants; RNALLOC_TEST_SEED changes the seed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

my $seed = $ENV{RNALLOC_TEST_SEED} // 1;
my @runs = (map { [$_, ''] } qw(calm large signals interval migration confined trim trim-signals crowd throng storm again));
push @runs, map { [$_, 'rseq=0'] } qw(calm signals migration confined trim crowd throng again) if subject() eq 'rnalloc';
push @runs, map { [$_, 'cid=0'] } qw(signals migration confined trim crowd) if subject() eq 'rnalloc';
# A handler that interrupted the allocator may not allocate in hardened mode: its paths take locks.
push @runs, map { [$_, 'hardened=1'] } qw(calm large trim again) if subject() eq 'rnalloc';
for (@runs) {
    my ($variant, $options) = @$_;
    my $run = run_program({env => {RNALLOC_OPTIONS => $options}}, bin_dir() . '/stress/shadow', $variant, $seed);
    child_tap($variant . ($options ? " ($options)" : ''), $run);
}
for my $options (subject() eq 'rnalloc' ? ('', 'cid=0') : ('')) {
    child_tap("nested ($options)", run_program({env => {RNALLOC_OPTIONS => $options}}, bin_dir() . '/stress/nested'));
}
done_testing();
