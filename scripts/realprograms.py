"""The programs of scripts/real-programs: what each is, the executable that must be seen allocating, and what it runs.

A script is bash (-eu, pipefail) in an empty folder. $IN holds inputs made once (see INPUTS);
$PORT and the nine above it are
free; `as USER command...` runs a server that refuses to be root. Its output and exit status must be the same whatever
the allocator: what is not (times, addresses, throughput) is filtered out by the script itself, and errors are not.
"""
import collections

Program = collections.namedtuple("Program", "kind name executable package probe script")

INPUTS = r"""
cat /usr/share/common-licenses/GPL* /usr/include/*.h /usr/include/x86_64-linux-gnu/bits/*.h > text
for i in $(seq 8); do cat text; done > big
mkdir tree && cp -r /usr/include/linux /usr/include/c++ tree/
cp -r "$ROOT"/{base,pagemap,backend,middle,frontend,include} "$ROOT"/scripts/rnalloc.3 .
find /usr/include -name '*.h' | LC_ALL=C sort > names
python3 - <<'END'
import json, random
random.seed(7)
rows = [{"id": i, "name": "n%d" % random.randrange(10**9), "tags": [random.randrange(100) for _ in range(i % 9)],
         "price": random.random()} for i in range(40000)]
json.dump(rows, open("data.json", "w"))
with open("data.csv", "w") as f:
    for row in rows:
        f.write("%d,%s,%.6f\n" % (row["id"], row["name"], row["price"]))
with open("data.xml", "w") as f:
    f.write("<rows>" + "".join("<row id='%d'><name>%s</name></row>" % (r["id"], r["name"]) for r in rows) + "</rows>")
with open("page.html", "w") as f:
    f.write("<html><title>page</title><body><div id=out></div><table>"
            + "".join("<tr><td>%d<td>%s</tr>" % (r["id"], r["name"]) for r in rows[:4000])
            + "</table><script>let m=new Map();for(let i=0;i<200000;i++)m.set('k'+i%5000,{i,a:[i,i+1]});"
              "document.getElementById('out').textContent='sum '+[...m.values()].reduce((s,o)=>s+o.a[1],0);"
              "</script></body></html>")
END
cat > template.cc <<'END'
#include <algorithm>
#include <iostream>
#include <map>
#include <random>
#include <regex>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>
int main() {
    std::map<std::string, std::vector<int>> words;
    std::mt19937 random(5);
    for (int i = 0; i < 200000; i++)
        words["w" + std::to_string(random() % 20000)].push_back(i);
    std::unordered_map<int, std::string> back;
    for (auto &[word, places] : words)
        back[places.front()] = word;
    std::regex digits("([0-9]+)");
    size_t sum = 0;
    for (auto &[place, word] : back)
        sum += std::regex_replace(word, digits, "<$1>").size() * size_t(place);
    std::cout << words.size() << ' ' << back.size() << ' ' << sum << '\n';
}
END
cat > Main.java <<'END'
import java.util.*;
import java.util.stream.*;
public class Main {
    record Point(int x, int y) {}
    sealed interface Shape permits Circle, Square {}
    record Circle(Point at, double r) implements Shape {}
    record Square(Point at, double side) implements Shape {}
    static double area(Shape s) { return s instanceof Circle c ? Math.PI * c.r() * c.r() : ((Square) s).side() * 2; }
    public static void main(String[] args) throws Exception {
        Map<String, List<Shape>> groups = IntStream.range(0, 300000)
            .mapToObj(i -> i % 2 == 0 ? (Shape) new Circle(new Point(i, -i), i % 7)
                             : new Square(new Point(i, i), i % 5))
            .collect(Collectors.groupingBy(s -> "g" + ((int) area(s)) % 37, TreeMap::new, Collectors.toList()));
        groups.forEach((k, v) -> System.out.println(k + " " + v.size()));
        Thread[] team = new Thread[8];
        long[] sums = new long[8];
        for (int t = 0; t < 8; t++) {
            int me = t;
            team[t] = new Thread(() -> { for (int i = 0; i < 1000000; i++) sums[me] += String.valueOf(i).hashCode(); });
            team[t].start();
        }
        for (Thread thread : team) thread.join();
        System.out.println(Arrays.toString(sums));
        byte[] raw = groups.toString().getBytes();
        java.util.zip.Deflater deflater = new java.util.zip.Deflater();
        deflater.setInput(raw); deflater.finish();
        System.out.println(raw.length + " " + deflater.deflate(new byte[raw.length]));
    }
}
END
cat > main.rs <<'END'
use std::collections::{BTreeMap, HashMap};
use std::thread;
fn main() {
    let workers: Vec<_> = (0..4u64).map(|t| thread::spawn(move || {
        let mut m: HashMap<String, Vec<u64>> = HashMap::new();
        let mut x = t + 1;
        for i in 0..100000u64 { x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            m.entry(format!("k{}", (x >> 33) % 5000)).or_default().push(i); }
        let sorted: BTreeMap<_, _> = m.into_iter().collect();
        sorted.iter().fold(0u64, |s, (k, v)| s.wrapping_mul(31).wrapping_add(k.len() as u64 * v.len() as u64))
    })).collect();
    for w in workers { println!("{}", w.join().unwrap()); }
}
END
"""

# Waits until a command succeeds, ten seconds at most.
PRELUDE = r"""
until_ok() { for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; echo "never ready: $*";
return 9; }
as() { local user=$1; shift; if [ "$(id -u)" = 0 ]; then runuser -u "$user" -- "$@"; else "$@"; fi; }
export LC_ALL=C.UTF-8 TZ=UTC SOURCE_DATE_EPOCH=1700000000 HOME=$PWD PATH=/usr/bin:/bin:/usr/sbin:/sbin:/usr/games
"""


def shells_and_text():
    kind = "shell or text tool"
    loop = ("declare -A h 2>/dev/null || typeset -A h; i=0; while [ $i -lt 20000 ]; do h[k$((i % 700))]=v$i; "
            "s=\"$s$((i % 10))\"; "
            "i=$((i + 1)); [ $((i % 500)) -eq 0 ] && s=; done; echo ${#h[@]} ${h[k7]} $(echo a | tr a b)")
    plain = ("i=0; while [ $i -lt 30000 ]; do s=\"$s$((i % 10))\"; i=$((i + 1)); [ $((i % 500)) -eq 0 ] && s=; done; "
             "echo $i; for f in $(head -200 $IN/names); do echo \"${f##*/}\"; done | cksum; (exit 3) || echo $?; "
             "echo a | (cat; echo b)")
    return [
        Program(kind, "dash", "dash", "dash", "dash", f"dash -c '{plain}'"),
        Program(kind, "bash", "bash", "bash", "bash", f"bash -c '{loop}'"),
        Program(kind, "zsh", "zsh", "zsh", "zsh", f"zsh -fc '{loop}'"),
        Program(kind, "ksh93", "ksh93", "ksh93u+m", "ksh", f"ksh -c '{loop}'"),
        Program(kind, "tcsh", "tcsh", "tcsh", "tcsh", "tcsh -f -c 'foreach f (`head -300 $IN/names`)\n echo "
                                        "$f:t\nend' | cksum"),
        # The package of the same name, unpacked: what is installed may be busybox-static, which no preload reaches.
        Program(kind, "busybox sh and tools", "busybox", "dpkg", "dpkg-deb",
                f"B=$IN/../busybox/bin/busybox; $B sh -c '{plain}'; $B sort $IN/text | $B uniq -c | $B sort -rn | $B sed "
                "-n 1,50p; $B sh -c 'for i in $(seq 300); do (echo $i); done | tail -1'"),
        Program(kind, "gawk", "gawk", "gawk", "gawk",
                "gawk '{for(i=1;i<=NF;i++)c[$i]++} END{n=asorti(c,d);for(i=1;i<=n;i++)print d[i],c[d[i]]}' $IN/big | "
                "cksum"),
        Program(kind, "mawk", "mawk", "mawk", "mawk",
                "mawk '{for(i=1;i<=NF;i++)c[$i]++} END{for(w in c)print w,c[w]}' $IN/big | sort | cksum"),
        Program(kind, "sed", "sed", "sed", "sed", "sed -E 's/([a-z_]+)\\(([^)]*)\\)/\\2<\\1>/g;/^$/d;G;s/\\n/|/' "
                                        "$IN/big | cksum"),
        Program(kind, "grep", "grep", "grep", "grep", "grep -nE '(\\w+)_\\1|#define +[A-Z]+' $IN/big | cksum; grep "
                                        "-rc struct $IN/tree | sort | cksum"),
        Program(kind, "sort, uniq, join (coreutils)", "sort", "coreutils", "sort",
                "sort -S 20M --parallel=4 $IN/big | uniq -c | sort -k1,1nr -k2 | cksum; sort -R "
                "--random-source=$IN/text $IN/names | cksum"),
        Program(kind, "find, xargs", "find", "findutils", "find",
                "find $IN/tree -type f -size +2k -print0 | sort -z | xargs -0 -P 4 -n 50 sha256sum | sort | cksum"),
        Program(kind, "jq", "jq", "jq", "jq", "jq -c 'group_by(.tags|length)|map({n:length,s:(map(.price)|add)})' "
                                        "$IN/data.json"),
        Program(kind, "xmllint", "xmllint", "libxml2-utils", "xmllint",
                "xmllint --xpath 'count(//row[@id mod 7=3])' $IN/data.xml; xmllint --format $IN/data.xml | cksum"),
        Program(kind, "bc", "bc", "bc", "bc", "echo 'scale=1500; 4*a(1); e(1)' | bc -l"),
        Program(kind, "vim", "vim.basic", "vim", "vim.basic",
                "cp $IN/text t; vim.basic -u NONE -i NONE -es t +'%s/int/INT/ge' +'g/struct/m0' +'sort u' +wq; cksum "
                "t"),
    ]


def compilers():
    kind = "compiler"
    return [
        Program(kind, "gcc", "cc1", "gcc", "gcc",
                "for f in $IN/*/*.c; do gcc -std=gnu11 -O2 -fPIC -fno-builtin-malloc -I$IN -I$IN/include "
                "-D_GNU_SOURCE -c $f -o x.o && cksum <x.o; done"),
        Program(kind, "g++", "cc1plus", "g++", "g++", "g++ -std=c++17 -O2 $IN/template.cc -o a; cksum a; ./a"),
        Program(kind, "ld with lto", "lto1", "gcc", "gcc",
                "g++ -flto=2 -frandom-seed=1 -std=c++17 -O1 $IN/template.cc -o a; ./a"),
        Program(kind, "program built by g++", "a", "g++", "g++", "env -u LD_PRELOAD g++ -std=c++17 -O2 "
                                        "$IN/template.cc -o a; ./a"),
        Program(kind, "clang", "clang", "clang", "clang",
                "for f in $IN/*/*.c; do clang -std=gnu11 -O2 -fPIC -I$IN -I$IN/include -D_GNU_SOURCE -w -c $f -o x.o "
                "&& cksum <x.o; done"),
        Program(kind, "clang++", "clang", "clang", "clang++", "clang++ -std=c++17 -O2 $IN/template.cc -o a; cksum a; "
                                        "./a"),
        Program(kind, "rustc", "rustc", "rustc", "/usr/bin/rustc", "/usr/bin/rustc -O $IN/main.rs -o a; ./a"),
        Program(kind, "program built by rustc", "a", "rustc", "/usr/bin/rustc", "env -u LD_PRELOAD /usr/bin/rustc "
                "$IN/main.rs -o a; ./a"),
        Program(kind, "javac", "javac", "default-jdk-headless", "javac", "javac -d . $IN/Main.java; cat *.class | "
                "cksum"),
        Program(kind, "java", "java", "default-jdk-headless", "java", "javac -d . $IN/Main.java; java -Xmx512m -cp . "
                "Main"),
        Program(kind, "ocaml", "ocamlrun", "ocaml-nox", "ocaml",
                "echo 'let rec f n = if n = 0 then [] else (string_of_int n) :: f (n-1);; let t = Hashtbl.create 9;; "
                "List.iter (fun s -> "
                "Hashtbl.replace t s (Bytes.create 5000)) (f 20000);; print_int (Hashtbl.length t);; Gc.compact "
                "();;' > x.ml; ocaml x.ml"),
        Program(kind, "make, cmake", "cmake", "cmake", "cmake",
                "printf 'cmake_minimum_required(VERSION 3.18)\\nproject(p CXX)\\nadd_executable(a %s)\\n' "
                "$IN/template.cc > CMakeLists.txt; "
                "mkdir b; cd b; cmake .. >/dev/null; make -j2 | sed 's/\\[.*\\]//'; ./a"),
    ]


def interpreters():
    kind = "interpreter"
    tests = ("test_dict test_list test_set test_unicode test_bytes test_json test_re test_zlib test_bz2 test_lzma "
             "test_threading test_queue test_heapq test_array test_collections test_deque test_itertools test_struct "
             "test_pickle "
             "test_decimal test_hashlib test_gc test_weakref test_io test_mmap test_fork1 test_thread test_ctypes "
             "test_xml_etree_c")
    return [
        Program(kind, "python3, its own tests", "python3.11", "libpython3.11-testsuite",
                "/usr/lib/python3.11/test/test_dict.py",
                f"/usr/bin/python3 -m test -w -u none --timeout 120 {tests} > log 2>&1 || s=$?; "
                "grep -E '^(Result|Total tests|All [0-9]+|[0-9]+ tests? (OK|failed|skipped)|== Tests result|    "
                "test_)' log "
                "| sed -E 's/ in [0-9.]+.*//; s/run=[0-9,]+//'; exit ${s-0}"),
        Program(kind, "python3, threads and data", "python3.11", "python3", "/usr/bin/python3",
                """/usr/bin/python3 - <<'END'
import concurrent.futures, hashlib, json, os, subprocess, zlib
data = json.load(open(os.environ["IN"] + "/data.json"))
def work(n):
    rows = [dict(row, n=n) for row in data[n::8]]
    return hashlib.sha256(zlib.compress(json.dumps(rows).encode(), 6)).hexdigest()
for pool in concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor:
    with pool(8) as p:
        print(*p.map(work, range(8)))
print(subprocess.run(["sort", "-u"], input=b"b\\na\\n", capture_output=True).stdout)
END"""),
        Program(kind, "perl", "perl", "perl", "perl", r"""
perl -MList::Util=shuffle,sum -MData::Dumper -MStorable=dclone -MTest::More -e '
local $/; open F,"$ENV{IN}/big"; my $t=<F>; my %c; $c{$1}++ while $t=~/(\w+)/g; $Data::Dumper::Sortkeys=1;
my $d=dclone(\%c); is_deeply($d,\%c,"clone"); is(length(Dumper($d)),length(Dumper(\%c)),"dump");
my @w=sort { $c{$b}<=>$c{$a} || $a cmp $b } keys %c; print "$_ $c{$_}\n" for @w[0..40];
for (1..20) { my $p=fork//die; unless($p){ my @x=map {"x"x$_} 1..3000; exit(@x%7) } waitpid $p,0;
print $?>>8," " } print "\n"; done_testing'"""),
        Program(kind, "perl, prove of its modules' tests", "perl", "perl", "prove",
                r"""mkdir t; for m in List::Util Storable Encode POSIX Socket Time::HiRes \
    Digest::SHA MIME::Base64 Compress::Zlib threads; do
printf 'use Test::More tests=>2; use_ok("%s"); my @x=map { { a=>[1..$_] } } 1..500;
is(scalar(@x),500);' $m > t/${m//:/_}.t; done
printf 'use threads; use Test::More; my @t=map { my $n=$_; threads->create(sub { my %%h=map {$_=>"v$_"} 1..20000;
scalar(%%h) }) } 1..6; is($_->join,20000) for @t; done_testing' > t/z.t
prove t 2>&1 | grep -v '^Files='"""),
        Program(kind, "ruby", "ruby3.1", "ruby", "ruby", r"""ruby -rjson -rdigest -e '
rows=JSON.parse(File.read(ENV["IN"]+"/data.json")); g=rows.group_by{|r| r["tags"].size};
puts g.map{|k,v| [k,v.size]}.sort.inspect
ths=6.times.map{|t| Thread.new{ (1..30000).map{|i| "s#{i*t}"}.tally.size } }; puts ths.map(&:value).inspect
GC.start; GC.compact; puts Digest::SHA256.hexdigest(JSON.generate(rows)); pid=fork{ a=(1..50000).map(&:to_s);
exit(a.size%7) }; Process.wait pid; puts $?.exitstatus'"""),
        Program(kind, "lua", "lua5.4", "lua5.4", "lua5.4", r"""lua5.4 -e '
local c={} for l in io.lines(os.getenv("IN").."/big") do for w in l:gmatch("%w+") do c[w]=(c[w] or 0)+1 end end
local k={} for w in pairs(c) do k[#k+1]=w end table.sort(k)
local s=0 for i,w in ipairs(k) do s=(s*31+#w*c[w])%1000000007 end
print(#k,s) local t={} for i=1,300000 do t[i%1000]=("x"):rep(i%300)..i end collectgarbage() print(#t[7])
for i=1,200 do local co=coroutine.wrap(function() for j=1,50 do coroutine.yield({j}) end end)
for j=1,50 do s=s+co()[1] end end print(s)'"""),
        Program(kind, "node", "node", "nodejs", "node", r"""cat > a.js <<'END'
const {Worker,isMainThread,workerData,parentPort}=require('worker_threads'),z=require('zlib');
const c=require('crypto'),fs=require('fs');
const text=fs.readFileSync(process.env.IN+'/data.json');
if(!isMainThread){const rows=JSON.parse(text).filter(r=>r.id%4==workerData);parentPort.postMessage(
c.createHash('sha256').update(z.gzipSync(JSON.stringify(rows)).subarray(10)).digest('hex'))}
else{let done=[];for(let i=0;i<4;i++)new Worker(__filename,{workerData:i}).on('message',m=>{
done[i]=m;if(done.filter(Boolean).length==4)console.log(done.join('\n'))});
let b=[];for(let i=0;i<20000;i++)b[i%300]=Buffer.alloc(i,i);console.log(b.reduce((s,x)=>s+x.length,0));
z.brotliCompress(text,{params:{[z.constants.BROTLI_PARAM_QUALITY]:4}},(e,r)=>console.log(r.length))}
END
node a.js | sort"""),
        Program(kind, "php", "php8.2", "php-cli", "php", r"""USE_ZEND_ALLOC=0 php -r '
$rows=json_decode(file_get_contents(getenv("IN")."/data.json"),true); usort($rows,fn($a,$b)=>$a["price"]<=>$b["price"]);
$c=[]; foreach($rows as $r){$c[count($r["tags"])][]=$r["name"];} ksort($c);
foreach($c as $k=>$v) echo $k," ",count($v)," ",md5(implode(",",$v)),"\n";
for($i=0;$i<50000;$i++){$s[$i%99]=str_repeat("x",$i%4000).$i;} echo md5(serialize($s)),"\n";
echo preg_replace_callback("/\w+/",fn($m)=>strrev($m[0]),"abc def"),"\n";'"""),
        Program(kind, "guile", "guile", "guile-3.0", "guile", r"""guile --no-auto-compile -c '
(define h (make-hash-table)) (do ((i 0 (+ i 1))) ((= i 200000))
(hash-set! h (modulo i 7001) (make-string (modulo i 90) #\x)))
(display (hash-count (const #t) h)) (newline) (display (modulo (expt 7 20000) (+ (expt 10 50) 7))) (newline)
(use-modules (ice-9 threads)) (display (par-map (lambda (n) (length (iota (* n 10000)))) (iota 8))) (gc) (newline)'"""),
        Program(kind, "tclsh", "tclsh8.6", "tcl", "tclsh",
                "echo 'for {set i 0} {$i<200000} {incr i} {lappend a([expr $i%977]) [string repeat x [expr "
                "$i%70]]$i}; puts [array size a]; "
                "set f [open $env(IN)/text]; puts [llength [regexp -all -inline {\\w+} [read $f]]]; puts [expr "
                "{7**2000 % 1000000007}]' > x.tcl; tclsh x.tcl"),
        Program(kind, "R", "R", "r-base-core", "R",
                "R --vanilla --slave -e 'set.seed(1); m<-matrix(rnorm(250000),500); print(round(sum(svd(m)$d),4)); "
                "l<-lapply(1:50000,function(i) "
                "paste0(\"k\",i)); print(length(unique(unlist(l)))); d<-data.frame(g=rep(1:100,500),v=runif(50000)); "
                "print(dim(aggregate(v~g,d,mean))); print(summary(lm(v~g,d))$df)'"),
        Program(kind, "erlang", "beam.smp", "erlang-base", "erl",
                "erl +Mea min -noshell -eval 'P=self(), L=[spawn(fun() -> B=[binary:copy(<<I:32>>,I rem 900) || I <- "
                "lists:seq(1,3000)], P!{N,erlang:md5(B)} end) || N <- "
                "lists:seq(1,40)], length(L), [receive {N,M} -> io:format(\"~p ~w~n\",[N,M]) end || N <- "
                "lists:seq(1,40)], halt(0).'"),
        Program(kind, "maxima", "maxima", "maxima", "maxima", "maxima --very-quiet --batch-string='factor(x^60-1); "
                                        "integrate(1/(x^4+1),x); 300!;'"),
        Program(kind, "gforth", "gforth-0.7.3", "gforth", "gforth",
                "gforth -e ': t 3000 1 do i 7 * allocate throw dup i 7 * erase i 7 * 2 * resize throw free throw "
                "loop 42 . cr ; t bye'"),
    ]
