# env.t: limits, locked memory, dlopen, RTLD_DEEPBIND, every moment of a process.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use File::Spec;
use Test::More;

my $bin = bin_dir() . '/env';
my $is_ours = subject() eq 'rnalloc';

# The shell sets the limit, then the program alone is run with the preload.
sub limited {
    my ($name, $ulimit, $env, @command) = @_;
    my $script = "ulimit $ulimit && exec env LD_PRELOAD=\"\$LATE_PRELOAD\" \"\$@\"";
    my $run = run_program({preload => '', env => {%$env, LATE_PRELOAD => preloaded()}}, '/bin/sh', '-c', $script, 'sh', @command);
    child_tap($name, $run);
}

for my $options ($is_ours ? ('', 'rseq=0') : ('')) {
    my $env = {RNALLOC_OPTIONS => $options};
    my $label = $options ? " ($options)" : '';
    limited("ulimit -v 131072$label", '-v 131072', $env, "$bin/limit", 'outer', 128, 60);
    limited("ulimit -v 65536$label", '-v 65536', $env, "$bin/limit", 'outer', 64, 40);
    limited("RLIMIT_AS reached$label", '-v unlimited', $env, "$bin/limit", 'space', 100, 60);
    limited("RLIMIT_AS set beneath the heap: $_$label", '-v unlimited', $env, "$bin/limit", $_, 48, 60) for qw(set raw);
    limited("RLIMIT_DATA reached$label", '-v unlimited', $env, "$bin/limit", 'data', 60, 60);
    limited("RLIMIT_DATA reached early$label", '-v unlimited', $env, "$bin/limit", 'data', 24, 40);
    child_tap("map count reached$label", run_program({env => $env}, "$bin/mapcount"));
    child_tap("scattered blocks, limit $_$label", run_program({env => $env}, "$bin/scattered", $_)) for $is_ours ? qw(none as data) : ();
    child_tap("mlockall$label", run_program({env => $env}, "$bin/locked"));
    child_tap("mlockall on fault$label", run_program({env => $env}, "$bin/locked", 'onfault'));
    for my $when (qw(early late)) {
        child_tap("RLIMIT_MEMLOCK reached, locked $when$label", run_program({env => $env}, "$bin/lockable", $when, $_)) for qw(future onfault);
    }
    child_tap("moments$label", run_program({env => $env}, "$bin/moments"));
    child_tap("phases$label", run_program({env => $env}, "$bin/phases", 64, 2));
}
# Limits just above what the process itself takes: what is left has to hold the tables, too.
for (map { my $options = $_; map { [$options, $_] } 0, 1, 2 } $is_ours ? ('', 'rseq=0', 'hardened=1') : ('')) {
    my ($options, $first) = @$_;
    my ($most, $less, $lost) = (0, 0, 0);
    for my $kib (map { 12288 + 512 * $_ } 0 .. 24) {
        my $script = "ulimit -v $kib && exec env LD_PRELOAD=\"\$LATE_PRELOAD\" RNALLOC_OPTIONS=$options $bin/fill $first";
        my $run = run_program({preload => '', env => {LATE_PRELOAD => preloaded()}}, '/bin/sh', '-c', $script);
        my ($bytes, $not_again) = $run->{out} =~ /^(\d+) (\d+)$/ or diag("$kib KiB: " . ended($run));
        $less += ($bytes // 0) < $most;
        $lost += $not_again // 1;
        $most = $bytes if $most < ($bytes // 0);
    }
    ok($less == 0 && $most >= 8 << 20, "a higher limit of address space never gives less ($options, first $first MiB; $less, $most)");
    ok($lost == 0, 'and what was given back is to be had again');
}
if ($is_ours) {
    child_tap('much thread-local storage', run_program({}, "$bin/tls"));
    child_tap("slumber ($_)", run_program({env => {RNALLOC_OPTIONS => $_}}, "$bin/slumber")) for ('', 'cid=0');
}
limited('ulimit -v 131072, glibc without rseq', '-v 131072', {GLIBC_TUNABLES => 'glibc.pthread.rseq=0'}, "$bin/limit", 'outer', 128, 60);
child_tap('moments, bound at once', run_program({env => {LD_BIND_NOW => 1}}, "$bin/moments"));

# A setting of the whole machine, which a test must not change behind its user's back.
open my $file, '<', '/proc/sys/vm/overcommit_memory' or die;
chomp(my $overcommit = <$file>);
SKIP: {
    skip "vm.overcommit_memory is $overcommit here; set it to 2 and run again", 1 if $overcommit != 2;
    limited('overcommit 2', '-v 262144', {}, "$bin/limit", 'outer', 256, 50);
}

my $plugins = File::Spec->rel2abs(bin_dir() . '/plugin');
child_tap('RTLD_DEEPBIND', run_program({}, "$bin/deepbind", $plugins, $is_ours ? 'shared' : 'own'));
child_tap('RTLD_DEEPBIND kept', run_program({env => {RNALLOC_OPTIONS => 'deepbind=1'}}, "$bin/deepbind", $plugins, 'own'));

SKIP: {
    skip 'there is no library to load', 1 if !$is_ours;
    my $library = ($ENV{RNALLOC_TEST_LIB} // 'build') . '/librnalloc.so';
    for my $env ({}, {GLIBC_TUNABLES => 'glibc.pthread.rseq=0'}, {RNALLOC_OPTIONS => 'rseq=0'}) {
        my $label = join ' ', map { "($_=$env->{$_})" } keys %$env;
        child_tap("dlopen $label", run_program({preload => '', env => {%$env, RNALLOC_TEST => 'glibc'}}, "$bin/dlopened", $library));
    }
}
done_testing();
