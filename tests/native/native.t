# native.t: the native API, linked to the shared and to the static library, in every mode; and the shape of the libraries.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use Test::More;

plan skip_all => 'the native API is rnAlloc\'s own' if subject() ne 'rnalloc';

my $bin = bin_dir() . '/native';
for my $env ({}, {RNALLOC_OPTIONS => 'rseq=0'}, {RNALLOC_OPTIONS => 'cid=0'}, {RNALLOC_OPTIONS => 'hardened=1'}, {GLIBC_TUNABLES => 'glibc.pthread.rseq=0'}) {
    my $label = join ' ', map { "($_=$env->{$_})" } keys %$env;
    child_tap("linked to the .$_ $label", run_program({preload => '', env => $env}, "$bin/whole-" . ($_ eq 'so' ? 'shared' : 'static')))
        for qw(so a);
}

my $library = ($ENV{RNALLOC_TEST_LIB} // 'build') . '/librnalloc.so';
my $dynamic = `readelf -dW $library`;
my @needed = $dynamic =~ /\(NEEDED\).*\[(.*?)\]/g;
is_deeply([grep { !/^(?:libc\.so|ld-linux)/ } @needed], [], "the library needs nothing but libc (@needed)");
unlike($dynamic, qr/TEXTREL/, 'it has no text relocations');
like($dynamic, qr/SONAME.*\[librnalloc\.so\.0\]/, 'its soname is librnalloc.so.0');
like($dynamic, qr/NODELETE/, 'it stays loaded');
my ($tls) = `readelf -lW $library` =~ /^\s*TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x[0-9a-f]+)/m;
cmp_ok(hex($tls // '0'), '<=', 64, 'static TLS is at most 64 bytes');
unlike(`readelf -lW $library`, qr/GNU_STACK.*RWE/, 'its stack is not executable');

my %exported = map { $_ => 1 } `nm -D --defined-only $library` =~ /^[0-9a-f]+ \w ([^\s@]+)/mg;
my @standard = qw(malloc free calloc realloc reallocarray memalign aligned_alloc posix_memalign valloc pvalloc malloc_usable_size
    mallinfo mallinfo2 malloc_info malloc_stats malloc_trim mallopt free_sized free_aligned_sized);
my @native = qw(rnAlloc rnFree rnCalloc rnRealloc rnAllocAligned rnFreeSized rnUsableSize rnGoodSize rnAllocSized rnAllocBatch
    rnFreeBatch rnReleaseMemory rnStats rnMode);
my @operators = qw(_Znwm _Znam _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t _ZnwmSt11align_val_t _ZnamSt11align_val_t
    _ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t _ZdlPv _ZdaPv _ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t
    _ZdlPvm _ZdaPvm _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t _ZdlPvSt11align_val_tRKSt9nothrow_t
    _ZdaPvSt11align_val_tRKSt9nothrow_t _ZdlPvmSt11align_val_t _ZdaPvmSt11align_val_t);
ok($exported{$_}, "$_ is exported") for @standard, @native, @operators;
my %wanted = map { $_ => 1 } @standard, @native, @operators;
# Wrapped functions of libc: dlopen, pthread_create, vfork, clone, setrlimit, prlimit. Version names are no functions.
my @others = grep { !$wanted{$_} && !/^(?:dlopen|pthread_create|vfork|clone|setrlimit(?:64)?|prlimit(?:64)?|RNALLOC\S*|__vfork|cfree)$/ } sort keys %exported;
is_deeply(\@others, [], 'nothing else is exported');
done_testing();
