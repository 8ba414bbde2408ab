# fork.t: processes made at every moment, with other libraries' fork handlers on both sides of the allocator's.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

my $preload = preloaded();
my ($helper, $maker) = map { bin_dir() . "/plugin/lib$_.so" } qw(atfork forkthread);
for my $options (subject() eq 'rnalloc' ? ('', 'rseq=0', 'helper_min_mib=1', 'hardened=1') : ('')) {
    my $how = {env => {RNALLOC_OPTIONS => $options}};
    my $label = $options ? " ($options)" : '';
    child_tap("storm$label", run_program($how, bin_dir() . '/fork/storm', $ENV{RNALLOC_TEST_SEED} // 1));
    child_tap("ways$label", run_program($how, bin_dir() . '/fork/ways'));
    # Hardened mode zeroes and checks all that bulk churns, which takes long; the backend, which bulk is about, is the same.
    child_tap("bulk$label", run_program($how, bin_dir() . '/fork/bulk')) if $options ne 'hardened=1';
    child_tap("$_ generations$label", run_program($how, bin_dir() . '/fork/generations', $_)) for qw(quiet busy helper);
    child_tap("own handlers$label", run_program($how, bin_dir() . '/fork/handlers'));
    child_tap("streams$label", run_program($how, bin_dir() . '/fork/streams'));
    child_tap("counts$label", run_program($how, bin_dir() . '/fork/counts'));
    child_tap("signals$label", run_program($how, bin_dir() . '/fork/signals'));
    for my $who (qw(main worker late)) {
        my $run = run_program($how, bin_dir() . '/fork/last', $who);
        ok($run->{exit} == 0, "the process ends with its last thread: $who$label") or diag(explain($run));
    }
    for (['handlers', $helper], ['threads', $maker]) {
        my ($program, $library) = @$_;
        my @orders = (["a library before$label", "$library:$preload"], ["a library after$label", "$preload:$library"]);
        for (@orders) {
            my ($name, $list) = @$_;
            child_tap("$program, $name", run_program({%$how, preload => $list =~ s/^:|:$//gr}, bin_dir() . "/fork/$program"));
        }
    }
}
done_testing();
