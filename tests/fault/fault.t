# fault.t: mmap, munmap, mprotect, madvise and mremap fail at every single call, from every call on, and at random.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Errno qw(ENOMEM EAGAIN EINVAL EPERM);
use Test::More;

plan skip_all => 'glibc makes its calls where nobody can stand between' if subject() ne 'rnalloc';

my $program = bin_dir() . '/fault/everywhere';
my $preload = preloaded(bin_dir() . '/plugin/libfailmap.so');
sub everywhere {
    my ($env, @arguments) = @_;
    return run_program({preload => $preload, env => $env}, $program, @arguments);
}

my $reference = everywhere({}, 'count');
child_tap('without failures', $reference);
my ($startup) = $reference->{out} =~ /calls: (\d+) startup/;
cmp_ok($startup // 0, '>', 5, 'the calls pass through the hands of the test') or BAIL_OUT('no calls were seen');

# From the process's first call on: the first allocations themselves meet the failure.
my @bad;
for my $n (1 .. $startup) {
    for my $many (1, 3, 1000000) {
        next if $many > 1 && $n > 30;
        my $run = everywhere({FAILMAP => "$n:$many:" . ENOMEM}, 'startup');
        push @bad, "FAILMAP=$n:$many:" . ENOMEM . ': ' . ended($run) . ": $run->{err}" . join(' ', grep { /^not/ } split /^/, $run->{out})
            if !defined $run->{exit} || $run->{exit} != 0;
    }
}
is(scalar @bad, 0, "each of the $startup calls since the start may fail") or diag(join '', map { /\n\z/ ? $_ : "$_\n" } @bad[0 .. ($#bad < 15 ? $#bad : 15)]);

for my $options ('', 'rseq=0') {
    my $env = {RNALLOC_OPTIONS => $options};
    my $label = $options ? " ($options)" : '';
    child_tap("ENOMEM$label", everywhere($env, 'at', 1, $startup, ENOMEM));
    child_tap("sweep ENOMEM$label", everywhere($env, 'sweep', ENOMEM));
    child_tap("random ENOMEM$label", everywhere($env, 'random', $ENV{RNALLOC_TEST_SEED} // 1, ENOMEM));
}
for my $error (EAGAIN, EINVAL, EPERM) {
    child_tap("sweep of error $error", everywhere({}, 'sweep', $error));
    child_tap("random error $error", everywhere({}, 'random', $ENV{RNALLOC_TEST_SEED} // 1, $error));
}
done_testing();
