# misuse.t: what comes of every misdeed, in the default mode, without rseq, in hardened mode and under a limit on address
# space: SIGABRT with exactly one line on stderr that names it and the address; or nothing at all, the heap being none the
# worse; or SIGSEGV at a guard page.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use POSIX qw(SIGABRT SIGSEGV);
use Test::More;

plan skip_all => 'messages are rnAlloc\'s own' if subject() ne 'rnalloc';

my $foreign = qr/not an rnAlloc pointer \(a stack or static object, another allocator's block; dlopen with RTLD_DEEPBIND is a usual cause\)/;
my $dead = qr/not a live block: freed already, or interior to a large one/;
my $misaligned = qr/misaligned pointer/;
sub twice { return ['double free', @_] }
sub interior { return ['interior pointer', @_] }

# Program => [functions that may be named, what may be said, with the smallest and largest fitting size class].
my %expected = (
    double_free_at_once => ['free', twice(100, 128)],
    double_free_other_between => ['free', twice(100, 128)],
    # The span may be gone by then.
    double_free_late => ['free', twice(100, 128), $dead],
    double_free_batch => ['free|rnFreeBatch', twice(64, 64)],
    double_free_zero => ['free', twice(1, 16)],
    double_free_large => ['free', $dead],
    double_free_huge => ['free', $dead],
    free_stack => ['free', $foreign],
    free_static => ['free', $foreign],
    free_literal => ['free', qr/$foreign|$misaligned/],
    free_code => ['free', qr/$foreign|$misaligned/],
    free_mapped => ['free', $foreign],
    free_unmapped => ['free', $foreign],
    free_low => ['free', $foreign],
    free_noncanonical => ['free', $foreign],
    free_kernel => ['free', $foreign],
    free_interior_small => ['free', interior(1000, 1152)],
    free_interior_large => ['free', $dead],
    free_interior_large_page => ['free', $dead],
    free_misaligned_small => ['free', $misaligned],
    free_misaligned_large => ['free', $misaligned],
    realloc_freed => ['realloc|free', twice(100, 128)],
    realloc_freed_large => ['realloc', $dead],
    realloc_foreign => ['realloc', $foreign],
    realloc_interior => ['realloc|free', interior(1000, 1152)],
    realloc_interior_large => ['realloc', $dead],
    realloc_misaligned => ['realloc', $misaligned],
    usable_foreign => ['malloc_usable_size', $foreign],
    usable_freed_large => ['malloc_usable_size', $dead],
    sized_foreign => ['free|free_sized', $foreign],
    overflow_byte => 'goes on',
    overflow_terminator => 'goes on',
    overflow_realloc => 'goes on',
    overflow_neighbours => 'goes on',
    overflow_large_slack => 'goes on',
    overflow_large_page => 'goes on',
    write_after_free => 'goes on',
    write_after_free_large => 'goes on',
    sized_wrong => 'goes on',
    sized_wrong_delete => 'goes on',
    sized_wrong_alignment => 'goes on',
    size_absurd => 'goes on',
    usable_freed => 'goes on',
);

# In hardened mode, where that is another thing.
my $twice_large = qr/double free \(large block of \d+ bytes\)/;
sub overflow { return ['overflow: bytes after the block were written', @_] }
my $overflow_large = qr/overflow: bytes after the block were written \(large block of \d+ bytes\)/;
my %hardened = (
    double_free_batch => ['free', twice(80, 80)],
    double_free_large => ['free', $twice_large],
    double_free_huge => ['free', $twice_large],
    free_interior_large => ['free', qr/$dead|interior pointer \(large block of \d+ bytes\)/],
    free_misaligned_large => ['free', qr/$misaligned(?: \(large block of \d+ bytes\))?/],
    free_misaligned_small => ['free', ['misaligned pointer', 100, 1152]],
    realloc_freed_large => ['realloc', $twice_large],
    realloc_interior_large => ['realloc', qr/$dead|interior pointer \(large block of \d+ bytes\)/],
    realloc_misaligned => ['realloc', ['misaligned pointer', 100, 1152]],
    usable_freed_large => ['malloc_usable_size', qr/freed already \(large block of \d+ bytes\)/],
    overflow_byte => ['free', overflow(112, 112)],
    overflow_terminator => ['free', overflow(80, 80)],
    overflow_realloc => ['realloc', overflow(1008, 1152)],
    overflow_neighbours => ['free', overflow(64, 64)],
    overflow_large_slack => ['free', $overflow_large],
    overflow_large_page => 'faults',
    write_after_free => ['malloc', ['written after free', 112, 112]],
    write_after_free_large => 'faults',
    sized_wrong => ['free', qr/wrong size 200, the block has 100/],
    sized_wrong_alignment => ['free', qr/wrong alignment 4096/],
    usable_freed => ['malloc_usable_size', ['freed already', 112, 112]],
);

sub says {
    my ($run, $functions, @alternatives) = @_;
    my ($address) = $run->{out} =~ /^(0x[0-9a-f]+)\n(?:.*\n)*\z/;
    return 0 unless $address && $run->{err} =~ /\Arnalloc: (?:$functions)\($address\): (.*)\n\z/;
    my $said = $1;
    for (@alternatives) {
        return 1 if ref $_ ne 'ARRAY' && $said =~ /\A(?:$_)\z/;
        next if ref $_ ne 'ARRAY';
        my ($deed, $low, $high) = @$_;
        return 1 if $said =~ /\A$deed \(size class (\d+) bytes\)\z/ && $1 >= $low && $1 <= $high;
    }
    return 0;
}

# Under a limit on address space free looks pointers up in another way.
my $limit = 'ulimit -v';
for my $mode ('', 'rseq=0', 'hardened=1', $limit) {
    my %env = $mode eq $limit ? () : (RNALLOC_OPTIONS => $mode);
    my @limited = $mode eq $limit ? ('sh', '-c', 'ulimit -v 4194304 && exec "$0"') : ();
    for my $program (sort keys %expected) {
        my $what = $mode eq 'hardened=1' && $hardened{$program} || $expected{$program};
        my $run = run_program({env => \%env}, @limited, bin_dir() . "/misuse/$program");
        my $label = $program . ($mode ? " ($mode)" : '');
        if (!ref $what) {
            my $signal = $what eq 'faults' ? SIGSEGV : 0;
            ok(($run->{signal} // 0) == $signal && ($run->{exit} // 0) == 0, "$label: $what") or diag('ended with ' . ended($run));
            is($run->{err}, '', "$label: nothing is said");
            next;
        }
        ok(defined $run->{signal} && $run->{signal} == SIGABRT, "$label: ends by SIGABRT") or diag('ended with ' . ended($run));
        ok(says($run, @$what), "$label: the message") or diag("address $run->{out}said: $run->{err}");
    }
}

# No program without its expectation, and none forgotten.
my %sources = map { s{.*/}{}r =~ s{\.c$}{}r => 1 } glob "$FindBin::Bin/*.c";
is_deeply([sort keys %sources], [sort keys %expected], 'every misdeed has its expectation');
done_testing();
