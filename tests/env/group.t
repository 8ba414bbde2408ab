# group.t: real control groups, of the test's own: a limit on memory, and a set of CPUs that shrinks under load.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

my $bin = bin_dir();
my $is_ours = subject() eq 'rnalloc';

sub put {
    my ($file, $text) = @_;
    open my $out, '>', $file or return 0;
    print $out "$text\n";
    return close $out;
}

sub get {
    my ($file) = @_;
    open my $in, '<', $file or return '';
    chomp(my $text = do { local $/; <$in> } // '');
    return $text;
}

# The folder of this process's own group, of version 1 for the controller, or of version 2: (folder, version).
sub own_group {
    my ($controller) = @_;
    for (split /\n/, get('/proc/self/cgroup')) {
        my (undef, $names, $path) = split /:/, $_, 3;
        return ("/sys/fs/cgroup/$controller$path", 1) if grep { $_ eq $controller } split /,/, $names;
    }
    my ($path) = get('/proc/self/cgroup') =~ /^0::(.*)$/m;
    return defined $path ? ("/sys/fs/cgroup$path", 2) : ();
}

# A child group in which `$file` can be written: (folder, undef), or (undef, reason).
sub child_group {
    my ($controller, %file) = @_;
    my ($own, $version) = own_group($controller);
    return (undef, "no control groups with $controller here") if !$own;
    my $folder = "$own/rnalloc-test-$$";
    mkdir $folder or return (undef, "no control group can be made in $own: $!");
    return ($folder, $file{$version}) if -w "$folder/$file{$version}";
    rmdir $folder;
    return (undef, "$own does not pass $controller on to groups inside it");
}

sub in_group {
    my ($folder, $options, @command) = @_;
    return run_program({env => {RNALLOC_OPTIONS => $options}, limits => sub { put("$folder/cgroup.procs", $$) or die }}, @command);
}

# Gone as soon as the kernel has seen its processes' ends.
sub remove {
    my ($folder) = @_;
    for (1 .. 100) {
        return 1 if rmdir $folder;
        select undef, undef, undef, 0.1;
    }
    return 0;
}

my @modes = $is_ours ? ('', 'rseq=0', 'helper=0', 'hugepages=0') : ('');

SKIP: {
    my ($folder, $file) = child_group('memory', 1 => 'memory.limit_in_bytes', 2 => 'memory.max');
    skip "a group with a limit on memory: $file", 1 if !$folder;
    ok(put("$folder/$file", 96 << 20), 'a group may have 96 MiB');
    put("$folder/memory.swap.max", 0);
    child_tap("48 MiB in use in a group of 96 ($_)", in_group($folder, $_, "$bin/env/crowded", 48)) for @modes;
    my ($most) = map { get("$folder/$_") } grep { -r "$folder/$_" } 'memory.max_usage_in_bytes', 'memory.peak';
    note("most in use: $most bytes") if $most;
    ok(remove($folder), 'the group is gone');
}

sub all_cpus {
    my ($mine) = get('/proc/self/status') =~ /^Cpus_allowed_list:\s*(\S+)/m;
    my ($first) = $mine =~ /^(\d+)/;
    return ($mine, $first, $mine =~ /\D/ ? 1 : 0);
}

# A process that writes two texts into a file by turns until it is told to end, which leaves the second there; and a pipe
# from it: a byte after the first turn of both, and in the end how many changes came after that.
sub changer {
    my ($path, @texts) = @_;
    pipe my $from, my $to or die;
    my $changer = fork // die "fork: $!";
    return ($changer, $from) if $changer != 0;
    my ($changes, $turns, $is_told, $is_over) = (0, 0, 0, 0); # a set that cannot be changed is told by the changes
    local $SIG{TERM} = sub { $is_over = 1 };
    until ($is_over) {
        $changes += put($path, $texts[$changes % 2]);
        ($changes, $is_told) = (0, syswrite $to, '.') if !$is_told && ($changes == 2 || ++$turns == 1000);
        select undef, undef, undef, 0.01;
    }
    put($path, $texts[1]);
    syswrite $to, $changes;
    POSIX::_exit(0);
}

SKIP: {
    my ($mine, $first, $has_more) = all_cpus();
    skip 'a set of CPUs that shrinks: there is one CPU', 1 if !$has_more;
    my ($folder, $file) = child_group('cpuset', 1 => 'cpuset.cpus', 2 => 'cpuset.cpus');
    skip "a set of CPUs that shrinks: $file", 1 if !$folder;
    put("$folder/cpuset.mems", get("$folder/../cpuset.mems")) if !length get("$folder/cpuset.mems");
    ok(put("$folder/$file", $mine), "a group may have CPUs $mine");
    for (['', 'calm'], ['', 'signals'], ['', 'crowd'], $is_ours ? (['cid=0', 'signals'], ['rseq=0', 'crowd']) : ()) {
        my ($options, $variant) = @$_;
        my $changes = 0;
        for (my $runs = 0; $changes < 2 && $runs < 10; $runs++) { # the program may have ended before the set changed
            my ($changer, $from) = changer("$folder/$file", $first, $mine);
            sysread $from, my $word, 1; # the set has changed, and back
            child_tap("$variant while the set of CPUs changes ($options)",
                      in_group($folder, $options, "$bin/stress/shadow", $variant, 1, 8));
            kill 'TERM', $changer;
            waitpid $changer, 0;
            sysread $from, $changes, 20;
        }
        cmp_ok($changes, '>', 1, "$variant ($options): the set changed");
        note("$changes changes");
    }
    ok(remove($folder), 'the group is gone');
}
done_testing();
