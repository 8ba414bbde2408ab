# smoke.t: programs of a stock machine give the same output and status with the allocator preloaded and without. That it was in use
# is shown by the option table, which RNALLOC_OPTIONS=help makes a program print.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use RnTest;
use File::Temp qw(tempdir);
use Test::More;

plan skip_all => 'both runs would be the same' if subject() ne 'rnalloc';

my $dir = tempdir(CLEANUP => 1);
my $here = $FindBin::Bin;

sub write_file {
    my ($name, $text) = @_;
    open my $file, '>', "$dir/$name" or die;
    print $file $text;
    close $file;
}

# Input that is large enough to make the programs work, and always the same.
my $random = 12345;
my @words = map { $random = ($random * 1103515245 + 12345) % 2147483648; sprintf 'word%d %x', $random % 5000, $random } 1 .. 60000;
write_file('words', join("\n", @words) . "\n");
write_file('program.c', join("\n", '#include <stdio.h>', (map { "static int f$_(int x) { return x * $_ + (x >> " . ($_ % 7) . '); }' } 1 .. 400),
    'int main(void) { long s = 0;', (map { "s += f$_(s & 0xffff);" } 1 .. 400), 'printf("%ld\n", s); return 0; }') . "\n");
write_file('program.cc', <<'CC');
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>
int main()
{
    std::map<std::string, std::vector<int>> m;
    for (int i = 0; i < 20000; i++)
        m["key" + std::to_string(i * 7919 % 3001)].push_back(i);
    size_t n = 0;
    std::regex pattern("key([0-9]+)7");
    for (auto &entry : m)
        n += entry.second.size() * std::regex_match(entry.first, pattern);
    std::cout << m.size() << ' ' << n << std::endl;
    try { std::vector<int> v; v.at(3); } catch (const std::exception &e) { std::cout << "caught" << std::endl; }
}
CC
write_file('many.sql', join '', "create table t(a integer, b text);\nbegin;\n", (map { "insert into t values($_, 'text " . ($_ * 37 % 1001) . "');\n" } 1 .. 5000),
    "commit;\ncreate index i on t(b);\nselect count(*), sum(a), max(b) from t;\nselect b, count(*) from t group by b order by 2 desc, 1 limit 20;\n");
mkdir "$dir/tree";
for my $i (1 .. 200) { write_file("tree/file$i", join "\n", @words[$i * 10 .. $i * 10 + $i]) }

# Name => shell commands; the shell is preloaded too. Each ends with output that does not depend on time or place.
my %programs = (
    bash => q{bash -c 'for i in {1..3000}; do a[i]=$((i*i)); s+=${a[i]:0:2}; done; echo ${#a[@]} ${#s}; echo "$s" | cksum; (trap "echo bye" EXIT; exit 3); echo $?; echo <(true) | wc -l'},
    dash => q{sh -c 'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); s="$s$i"; done; echo ${#s}'},
    grep => q{grep -c 'word1.*f' words; grep -E '(a|b)+c?[0-9]{3}' words | cksum; grep -o '[0-9a-f]*$' words | tail -1},
    sort => q{sort --parallel=4 -S 2M words | cksum; sort -u -k2 -R --random-source=words words | sort | cksum; sort -n nosuchfile; echo $?},
    uniq => q{cut -d' ' -f1 words | sort | uniq -c | sort -rn | head -20},
    sed => q{sed -e 's/word\([0-9]*\)/<\1>/g;N;P;D' words | cksum; sed -n '$=' words},
    awk => q{awk '{ c[$1]++; l[$1] = l[$1] substr($2,1,1) } END { for (k in c) { n++; t += length(l[k]) } print n, t }' words},
    perl => q{perl -e 'my %h; open F, "words"; while (<F>) { chomp; push @{$h{substr $_, 0, 6}}, $_ } print join(",", map { scalar @{$h{$_}} } sort keys %h), "\n"; my $s = "ab" x 500000; $s =~ s/b/cc/g; print length $s, "\n"; my $p = fork; if (!$p) { my @a = (1..10000); exit 7 } waitpid $p, 0; print $? >> 8, "\n"'},
    python3 => qq{python3 $here/threads.py},
    'python3 json' => q{python3 -c 'import json,re,collections; d=[l.split() for l in open("words")]; print(len(json.dumps(d)), collections.Counter(a for a,b in d).most_common(3), len(re.findall("a+b", open("words").read())))'},
    gcc => q{gcc -O2 -o a.out program.c && ./a.out && gcc -O2 -S -o - program.c | cksum; gcc -c nosuch.c; echo $?},
    'g++' => q{g++ -O1 -std=c++17 -o b.out program.cc && ./b.out; echo 'int main( ;' | g++ -x c++ -fsyntax-only - ; echo $?},
    clang => q{clang-14 -O2 -o c.out program.c && ./c.out},
    make => q{printf 'all: x y\nx y:\n\t@echo made $@; sleep 0\n' > Makefile && make -s -j1},
    tar => q{tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf t.tar tree && cksum < t.tar && tar tf t.tar | tail -2 && mkdir -p out && tar xf t.tar -C out && diff -r tree out/tree && echo same},
    gzip => q{gzip -9nc words | cksum; gzip -c words | gzip -dc | cksum},
    xz => q{xz -T2 -3 -c words | xz -dc | cksum; xz -6 -c words | cksum},
    zstd => q{zstd -q -T2 -c words | zstd -dc | cksum},
    bzip2 => q{bzip2 -c words | bzip2 -dc | cksum},
    find => q{find tree -type f -name '*7' -size -9 | sort | xargs -n 5 echo | cksum; find / -maxdepth 1 -xdev | wc -l},
    diff => q{sort words > w1; diff words w1 | cksum; diff -u tree/file1 tree/file20 | tail -n +3 | cksum},
    git => q{rm -rf repo; git init -q repo && cd repo && git config user.email a@b && git config user.name n && cp -r ../tree . && git add . && GIT_AUTHOR_DATE='1 Jan 2020 00:00 +0000' GIT_COMMITTER_DATE='1 Jan 2020 00:00 +0000' git commit -q -m x && git log --format=%H && git gc -q && git fsck && git grep -c word1 | cksum},
    openssl => q{openssl dgst -sha256 words; openssl enc -aes-256-cbc -pbkdf2 -S 0011223344556677 -pass pass:x -in words | openssl dgst -md5; openssl genrsa 1024 2>/dev/null | openssl rsa -check -noout 2>&1},
    sqlite3 => q{sqlite3 :memory: < many.sql},
    node => q{node -e 'const m = new Map(); for (let i = 0; i < 200000; i++) m.set("k" + i % 5003, Buffer.alloc(i % 700)); let t = 0; for (const b of m.values()) t += b.length; console.log(m.size, t, JSON.stringify([...m.keys()]).length); new (require("worker_threads").Worker)("console.log(require(\"zlib\").gzipSync(\"x\".repeat(1e6)).length)", {eval: true})'},
    cmake => q{rm -rf cm && mkdir cm && printf 'cmake_minimum_required(VERSION 3.10)\nproject(p NONE)\nforeach(i RANGE 1000)\nlist(APPEND l x${i})\nendforeach()\nlist(LENGTH l n)\nmessage(STATUS "n ${n}")\n' > cm/CMakeLists.txt && cmake -S cm -B cm/b | grep '^-- n'},
    gdb => q{gdb -q -batch -nx -ex 'print 6*7' -ex 'print sizeof(long)'},
    bc => q{echo 'scale=800; 4*a(1)' | bc -l | cksum},
    ps => q{ps -p $$ -o comm= | tr -d ' '},
    locale => q{LC_ALL=C.UTF-8 sort words | LC_ALL=C.UTF-8 tr a-z A-Z | cksum; locale -a | head -1},
    getent => q{getent passwd root | cut -d: -f1,3; getent hosts localhost | wc -l},
);

# Programs under a small address space; shells and text tools must not mind.
my %limited = map { $_ => "ulimit -v 131072; $programs{$_}" } qw(bash grep sed awk sort perl tar);

sub run_shell {
    my ($preload, $env, $commands) = @_;
    system('sh', '-c', "cd $dir && rm -rf out repo cm a.out b.out c.out");
    return run_program({dir => $dir, preload => $preload, env => $env}, '/bin/sh', '-c', $commands);
}

sub compare {
    my ($name, $commands, $env) = @_;
    my $plain = run_shell('', {}, $commands);
    my $ours = run_shell(preloaded(), $env, $commands);
    is(ended($ours), ended($plain), "$name: the same status");
    ok($ours->{out} eq $plain->{out} && length $plain->{out}, "$name: the same output") or diag("expected: $plain->{out}\ngot: $ours->{out}");
    ok($ours->{err} eq $plain->{err}, "$name: the same messages") or diag("expected: $plain->{err}\ngot: $ours->{err}");
}

for my $name (sort keys %programs) {
    my ($program) = split / /, $name;
    $program = 'clang-14' if $program eq 'clang';
    SKIP: {
        skip "$program is not installed", 3 if system("command -v $program >/dev/null 2>&1") != 0;
        compare($name, $programs{$name}, {});
    }
}
compare("$_, ulimit -v 131072", $limited{$_}, {}) for sort keys %limited;
compare("$_, rseq=0", $programs{$_}, {RNALLOC_OPTIONS => 'rseq=0'}) for qw(bash gcc git python3 xz sort);

# The proof that it is in use: the option table comes from within the program.
for my $program ('/bin/true', 'grep x /dev/null', 'perl -e 1', 'git --version') {
    my $run = run_program({env => {RNALLOC_OPTIONS => 'help'}}, '/bin/sh', '-c', "exec $program");
    like($run->{err}, qr/hugepages/, "the allocator serves $program");
}
done_testing();
