# soak.t: a few seconds of scripts/soak's program, in each mode.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

plan skip_all => 'the soak is linked to rnAlloc' if subject() ne 'rnalloc';

my $guest = bin_dir() . '/plugin/libguest.so';
for my $options ('', 'rseq=0') {
    my $how = {env => {RNALLOC_OPTIONS => $options}, preload => ''};
    my $run = run_program($how, bin_dir() . '/soak/soak', 2, 0.7, $guest, $ENV{RNALLOC_TEST_SEED} // 1);
    my $lines = () = $run->{out} =~ /^lap .* 0 wrong$/mg;
    is($lines, 2, "a line each lap, and nothing wrong ($options)");
    like($run->{out}, qr/every block sound, nothing lost, memory where it was\n\z/, "it ends well ($options)");
    is($run->{exit}, 0, "with status 0 ($options)") or diag(ended($run), "\n$run->{out}$run->{err}");
}
for my $bad (['--minutes'], ['--minutes', 'many'], ['--hours', 1]) {
    is(run_program({preload => ''}, "$FindBin::Bin/../../scripts/soak", @$bad)->{exit}, 2, "scripts/soak @$bad: status 2");
}
done_testing();
