#!/usr/bin/perl
# make install into a DESTDIR: what arrives, and that programs compile, link and run with it, shared and static.
use strict;
use warnings;
use File::Find;
use File::Temp qw(tempdir);
use Test::More;

delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES LD_PRELOAD)};    # this make is nobody's child
plan(skip_all => 'glibc is not installed from here') if ($ENV{RNALLOC_TEST} // '') eq 'glibc';
my $build  = $ENV{RNALLOC_TEST_LIB} // 'build';
my $dest   = tempdir(CLEANUP => 1);
my $prefix = '/opt/rnalloc';
my $at     = "$dest$prefix";

# Runs a shell command; gives its output, both streams, and shows it when the command fails.
sub run {
    my ($command) = @_;
    my $output = `( $command ) 2>&1 </dev/null`;
    diag("$command\n$output") if $?;
    return $output;
}

sub succeeds {
    my ($command, $name) = @_;
    my $output = run($command);
    ok($? == 0, $name);
    return $output;
}

sub installed_files {
    my @files;
    find(sub { push @files, substr $File::Find::name, length "$at/" if !-d || -l }, $dest);
    return sort @files;
}

sub write_file {
    my ($path, $text) = @_;
    open my $file, '>', $path or die "$path: $!";
    print $file $text;
    close $file or die "$path: $!";
}

sub needed { return run("readelf -d $_[0] | grep NEEDED") }

succeeds("make install BUILD=$build DESTDIR=$dest PREFIX=$prefix", 'make install');
my ($major, $minor) = run('cat include/rnalloc.h') =~ /VERSION_MAJOR (\d+).*VERSION_MINOR (\d+)/s;
my $version = "$major.$minor.0";
my $soname  = "librnalloc.so.$major";
is_deeply([installed_files()],
    [sort 'include/rnalloc.h', map({ "lib/$_" } 'librnalloc.a', 'librnalloc.so', $soname, "librnalloc.so.$version",
        'pkgconfig/rnalloc.pc'), 'share/man/man3/rnalloc.3'], 'the files, and no others');
is(readlink "$at/lib/$soname", "librnalloc.so.$version", 'the soname leads to the library');
is(readlink "$at/lib/librnalloc.so", $soname, 'the name for the linker leads to the soname');
like(run("readelf -d $at/lib/librnalloc.so"), qr/SONAME.*\[\Q$soname\E\]/, 'the soname is that of the link');
unlike(run("cat $at/lib/pkgconfig/rnalloc.pc"), qr/\Q$dest\E/, 'the pkg-config file does not name DESTDIR');

# A program that has to be served by rnAlloc under both sets of names.
my $source = "$dest/program.c";
write_file($source, <<'END');
#include <rnalloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    char *block = malloc(100);
    if (!block || rnUsableSize(block) != rnGoodSize(100))
        return 1;
    strcpy(block, rnMode().name);
    puts(block);
    rnFree(block);
    free(rnAlloc(1000000));
    return 0;
}
END
my $cxx = "$dest/program.cc";
write_file($cxx, <<'END');
#include <rnalloc.h>
#include <cstdio>
#include <string>
#include <vector>

int main() {
    std::vector<std::string> words(1000, std::string(100, 'x'));
    if (words[999].size() != 100 || rnUsableSize(words.data()) < 1000 * sizeof words[0])
        return 1;
    std::puts(rnMode().name);
    return 0;
}
END

$ENV{PKG_CONFIG_PATH}        = "$at/lib/pkgconfig";
$ENV{PKG_CONFIG_SYSROOT_DIR} = $dest;
is(run('pkg-config --modversion rnalloc'), "$version\n", 'pkg-config tells the version');
my $warn    = '-Wall -Wextra -Werror';
my $modes   = qr/^(rseq-cid|rseq-cpu|thread)$/;
my $library = "LD_LIBRARY_PATH=$at/lib";

succeeds("gcc $warn -o $dest/shared $source \$(pkg-config --cflags --libs rnalloc)", 'C links with the shared library');
like(needed("$dest/shared"), qr/\[\Q$soname\E\]/, '... by its soname');
like(succeeds("$library $dest/shared", '... and runs'), $modes, '... on rnAlloc');

my $archive = "\$(pkg-config --cflags --libs --static rnalloc | sed 's/-lrnalloc/-l:librnalloc.a/')";
succeeds("gcc $warn -o $dest/archived $source $archive", 'C links with the archive');
unlike(needed("$dest/archived"), qr/rnalloc/, '... and needs no library of ours');
like(succeeds("$dest/archived", '... and runs'), $modes, '... on rnAlloc');

my $static = "-static \$(pkg-config --cflags --libs --static rnalloc)";
succeeds("gcc $warn -o $dest/static $source $static", 'C links statically');
like(succeeds("$dest/static", '... and runs'), $modes, '... on rnAlloc');

succeeds("g++ $warn -o $dest/cxx $cxx \$(pkg-config --cflags --libs rnalloc)", 'C++ links with the shared library');
like(succeeds("$library $dest/cxx", '... and runs'), $modes, '... on rnAlloc');
succeeds("g++ $warn -o $dest/cxx-archived $cxx $archive", 'C++ links with the archive');
like(succeeds("$dest/cxx-archived", '... and runs'), $modes, '... on rnAlloc');
for my $which (qw(replaced replaced_arrays)) {
    succeeds("g++ -std=gnu++17 $warn -rdynamic -o $dest/$which tests/cxx/$which.cc $archive", "C++ with operators of its own links with the archive ($which)");
    unlike(succeeds("$dest/$which", '... and runs'), qr/^not ok/m, '... and the others call them');
}

unlink map { "$dest/$_" } qw(program.c program.cc shared archived static cxx cxx-archived replaced replaced_arrays);
succeeds("make uninstall DESTDIR=$dest PREFIX=$prefix", 'make uninstall');
is_deeply([installed_files()], [], 'nothing is left');
done_testing();
