# RnTest.pm: what the drivers (*.t) share: running a program under the allocator and looking at how it ended.
package RnTest;
use strict;
use warnings;
use Exporter 'import';
use File::Temp qw(tempfile tempdir);
use POSIX qw(WIFEXITED WEXITSTATUS WIFSIGNALED WTERMSIG);
our @EXPORT = qw(run_program preloaded subject bin_dir sources ended child_tap);

# What is under test: "rnalloc", or "glibc" when the tests themselves are tried. (Programs know "lineage ..." too.)
sub subject { return $ENV{RNALLOC_TEST} // 'rnalloc' }
sub bin_dir { return $ENV{RNALLOC_TEST_BIN} // 'build/tests' }

# The programs of a folder, named after their sources.
sub sources { return map { s{.*/}{}r =~ s{\.c$}{}r } sort glob "$_[0]/*.c" }

# The preload list: further libraries first, then the allocator.
sub preloaded { return join ':', grep { length } @_, $ENV{RNALLOC_TEST_PRELOAD} // '' }

# run_program({env => {...}, preload => "...", stdin => "file", limits => sub {...}}, @command)
# gives {out, err, status, exit, signal}. Only the program gets the environment, not this driver.
sub run_program {
    my ($how, @command) = @_;
    my ($out, $out_name) = tempfile(UNLINK => 1);
    my ($err, $err_name) = tempfile(UNLINK => 1);
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        open STDIN, '<', $how->{stdin} // '/dev/null' or die;
        open STDOUT, '>&', $out or die;
        open STDERR, '>&', $err or die;
        chdir $how->{dir} if $how->{dir};
        $ENV{LD_PRELOAD} = $how->{preload} // preloaded();
        delete $ENV{LD_PRELOAD} unless length $ENV{LD_PRELOAD};
        $ENV{$_} = $how->{env}{$_} for keys %{$how->{env} // {}};
        $how->{limits}->() if $how->{limits};
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    waitpid $pid, 0;
    my $status = $?;
    local $/;
    seek $_, 0, 0 for $out, $err;
    return {
        out => scalar(<$out>) // '', err => scalar(<$err>) // '', status => $status,
        exit => (WIFEXITED($status) ? WEXITSTATUS($status) : undef),
        signal => (WIFSIGNALED($status) ? WTERMSIG($status) : undef),
    };
}

# How a program ended, in words.
sub ended {
    my ($run) = @_;
    return defined $run->{signal} ? "signal $run->{signal}" : "exit $run->{exit}";
}

# Passes a child's TAP claims on as claims of this driver, and adds one: it ended well and made as many as it planned.
sub child_tap {
    my ($name, $run) = @_;
    my ($claims, $plan) = (0, -1);
    for (split /\n/, $run->{out}) {
        if (/^1\.\.(\d+)$/) {
            $plan = $1;
        } elsif (/^ok \d+ - (.*?) # SKIP (.*)$/) {
            $claims++;
            my ($claim, $reason) = ($1, $2);
            SKIP: { Test::More::skip("$name: $claim: $reason", 1) }
        } elsif (/^(not )?ok \d+ - (.*)$/) {
            $claims++;
            Test::More::ok(!$1, "$name: $2");
        } elsif (/^# (.*)$/) {
            Test::More::note("$name: $1");
        }
    }
    my $whole = $plan == $claims && defined $run->{exit} && $run->{exit} <= 1;
    Test::More::ok($whole, "$name: ran to its end") or Test::More::diag(ended($run) . ", $claims claims, plan $plan");
    Test::More::diag(substr $run->{err}, 0, 2000) if length $run->{err} && !($whole && $run->{exit} == 0);
    return $whole && $run->{exit} == 0;
}

1;
