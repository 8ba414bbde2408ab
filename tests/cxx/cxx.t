# cxx.t: C++ operators in a C++ program, and in a C program that loads C++ later.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use POSIX qw(SIGABRT);
use Test::More;

my $plugin = bin_dir() . '/plugin/libcxx.so';
for my $options (subject() eq 'rnalloc' ? ('', 'hardened=1') : ('')) {
    my $how = {env => {RNALLOC_OPTIONS => $options}};
    child_tap("operators ($options)", run_program($how, bin_dir() . '/cxx/operators'));
    child_tap("$_ ($options)", run_program($how, bin_dir() . "/cxx/$_")) for qw(replaced replaced_arrays);
    child_tap("late ($options)", run_program($how, bin_dir() . '/cxx/late', $plugin));
}

SKIP: {
    skip 'glibc has no operators', 1 if subject() ne 'rnalloc';
    # Without any C++ runtime nobody can throw: the process must end, never return null from a throwing form.
    my $run = run_program({}, bin_dir() . '/cxx/no_runtime');
    ok(defined $run->{signal} && $run->{signal} == SIGABRT && $run->{out} eq '', 'a failing new without a C++ runtime aborts')
        or diag(ended($run) . ": $run->{out}$run->{err}");
    like($run->{err}, qr/\Arnalloc: .*\n\z/, 'and says why in one line');
}
done_testing();
