"""More kinds of programs: confined, watched, limited, detached ones, further languages, servers and tools.

The manner of realprograms.py. What these add is not more of the same load, but what else a program may do around its
allocator: sandboxes and limits entered late, other namespaces and users, debuggers, threads and children not made by
the C library, blocks used to their last usable byte.
"""
from realprograms import Program

WORDS = "local $/; my $t=<STDIN>; my %c; $c{$1}++ while $t=~/(\\w+)/g; print scalar(keys %c),\"\\n\""


def confined():
    kind = "confined"
    return [
        Program(kind, "sshd, sftp-server: seccomp, separate users", "sshd", "openssh-server", "/usr/sbin/sshd", r"""
mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f h; ssh-keygen -q -t ed25519 -N '' -f k; cp k.pub keys
chmod 755 .; printf '%s\n' "Port $PORT" 'ListenAddress 127.0.0.1' "HostKey $PWD/h" "AuthorizedKeysFile $PWD/keys" \
    'StrictModes no' 'PermitRootLogin yes' 'UsePAM no' "PidFile $PWD/pid" 'Subsystem sftp internal-sftp' > c
/usr/sbin/sshd -D -e -f $PWD/c 2>log & S=$!
O="-q -i k -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
until_ok ssh $O -p $PORT 127.0.0.1 true
for i in $(seq 12); do ssh $O -p $PORT 127.0.0.1 "cat $IN/text | cksum; exit $i" || echo $?; done
scp $O -P $PORT 127.0.0.1:$IN/data.xml x; cksum x; scp $O -C -P $PORT x 127.0.0.1:$PWD/y; cmp x y && echo same
kill $S; wait $S || true; grep -ciE 'fatal|signal 31|abort' log || true"""),
        Program(kind, "vsftpd: RLIMIT_AS set by itself, chroot, one user each", "vsftpd", "vsftpd", "vsftpd", r"""
chmod 755 .; mkdir pub empty; cp $IN/text $IN/data.xml pub/; chmod 755 pub empty; chmod 644 pub/*
printf '%s\n' listen=YES "listen_port=$PORT" listen_address=127.0.0.1 anonymous_enable=YES "anon_root=$PWD/pub" \
    no_anon_password=YES background=NO "secure_chroot_dir=$PWD/empty" seccomp_sandbox=NO > c; chmod 644 c
vsftpd $PWD/c >log 2>&1 & S=$!; until_ok env -u LD_PRELOAD curl -sf ftp://127.0.0.1:$PORT/
for i in $(seq 8); do env -u LD_PRELOAD curl -sS ftp://127.0.0.1:$PORT/text 2>&1 | cksum; done
env -u LD_PRELOAD curl -sS ftp://127.0.0.1:$PORT/ | wc -l; kill $S; wait $S || true; cat log"""),
        Program(kind, "man: seccomp around its pipeline", "man", "man-db", "man",
                "man --warnings=mac -Tutf8 -l $IN/rnalloc.3 | cksum; for i in $(seq 5); do man -E UTF-8 -l "
                "$IN/rnalloc.3 | wc -l; done"),
        Program(kind, "chronyd: seccomp, mlockall", "chronyd", "chrony", "chronyd", r"""
printf '%s\n' 'local stratum 8' "port $PORT" "cmdport $((PORT + 1))" 'bindaddress 127.0.0.1' 'bindcmdaddress /' \
    'bindcmdaddress 127.0.0.1' 'allow 127.0.0.1' 'user root' "driftfile $PWD/drift" "pidfile $PWD/pid" > c
chronyd -d -x -m -F 2 -f $PWD/c >log 2>&1 & S=$!
until_ok chronyc -h 127.0.0.1 -p $((PORT + 1)) tracking
for i in $(seq 40); do chronyc -h 127.0.0.1 -p $((PORT + 1)) tracking | grep -E 'Stratum|Leap'; done | sort | uniq -c
kill $S; wait $S; echo $?"""),
        Program(kind, "tor: its own seccomp sandbox", "tor", "tor", "tor", r"""
tor -f /dev/null --ignore-missing-torrc --DataDirectory $PWD/d --DisableNetwork 1 --SocksPort 0 --Sandbox 1 \
    --Log "notice file $PWD/log" >/dev/null & S=$!
until_ok grep -q 'Opening\|Parsing\|Tor can' log; sleep 2; kill -INT $S; wait $S; echo $?
grep -cE '\[err\]|Bad syscall' log || true"""),
        Program(kind, "bubblewrap: all namespaces of its own", "bwrap", "bubblewrap", "bwrap",
                "bwrap --ro-bind / / --proc /proc --dev /dev --unshare-all --die-with-parent --new-session "
                "sort -S 20M --parallel=4 $IN/text | cksum; bwrap --ro-bind / / --dev /dev --tmpfs /tmp --unshare-user "
                f"--uid 65534 --unshare-pid perl -e '{WORDS}' < $IN/text"),
        Program(kind, "chroot, another user, new namespaces", "sort", "coreutils", "unshare",
                "chmod 755 .; unshare --mount --ipc --uts --pid --fork chroot / setpriv --reuid=65534 --regid=65534 "
                "--clear-groups --no-new-privs --bounding-set=-all sort -S 20M --parallel=4 $IN/text | cksum"),
        Program(kind, "prlimit: address space limited under a running program", "python3.11", "util-linux", "prlimit",
                r"""/usr/bin/python3 - <<'END'
import mmap, resource, subprocess, os, threading
threading.stack_size(256 << 10)
now = int(open("/proc/self/statm").read().split()[0]) << 12
limit = min(now, 40 << 20) + (400 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
m = mmap.mmap(-1, 100 << 20); m[5] = 7
def work(out):
    out.append(sum(len(("x" * (i % 900)).encode()) for i in range(60000)))
out = []; team = [threading.Thread(target=work, args=(out,)) for _ in range(2)]
[t.start() for t in team]; [t.join() for t in team]; print(out)
held = []
try:
    while True: held.append(bytearray(1 << 20))
except MemoryError: print(len(held) > 90)
del held; print(len(bytearray(90 << 20)), m[5])
print(subprocess.run(["sort", "-u"], input=b"b\na\n", capture_output=True).stdout)
END"""),
    ]


def watched():
    kind = "watched"
    return [
        Program(kind, "strace of threads and forks", "perl", "strace", "strace",
                "strace -f -o t perl -Mthreads -e 'my @t=map { my $n=$_; threads->create(sub { my @x=map {\"y\"x$_} "
                "1..2000; scalar(@x)+$n }) } 1..4; print $_->join,\"\\n\" for @t; for(1..10) { my $p=fork//die; unless "
                "($p) { my @x=map {\"x\"x$_} 1..999; exit(@x%7) } waitpid $p,0; print $?>>8,\"\\n\" }'"),
        Program(kind, "ltrace by the dynamic linker (LD_AUDIT, a second C library)", "sort", "libc-bin coreutils",
                "/usr/lib/x86_64-linux-gnu/audit/sotruss-lib.so",
                "SOTRUSS_OUTNAME=$PWD/o LD_AUDIT=/usr/lib/x86_64-linux-gnu/audit/sotruss-lib.so sort -S 8M "
                "--parallel=4 $IN/names | cksum"),
        Program(kind, "perf stat and record", "perf", "linux-perf", "perf",
                "perf stat -e task-clock -x, -o s sort $IN/text | cksum; perf record -q -e cpu-clock -o p -- perl -e '"
                + WORDS + "' < $IN/big; perf report -q -i p --stdio 2>/dev/null | grep -c . | sed 's/[0-9][0-9]*/n/'"),
        Program(kind, "valgrind --tool=none", "python3.11", "valgrind", "valgrind",
                "valgrind -q --tool=none /usr/bin/python3 -c 'import json,os; d=json.load(open(os.environ[\"IN\"]+"
                "\"/data.json\")); print(len(d), sum(len(r[\"tags\"]) for r in d))'"),
        Program(kind, "gcore: a core written of a running process", "perl", "gdb", "gcore", r"""
perl -e '$|=1; my @x=map {"x"x$_} 1..3000; print scalar(@x),"\n"; open F,">",ready; close F; sleep 1 while !-e "go";
push @x,map {"y"x$_} 1..3000; print scalar(@x),"\n"' & P=$!
until_ok test -e ready; env -u LD_PRELOAD gcore -o core $P >/dev/null 2>&1 || true; touch go; wait $P; echo $?"""),
    ]


def unusual():
    kind = "unusual process"
    return [
        Program(kind, "malloc's own variables, everything bound at once", "python3.11", "python3", "/usr/bin/python3",
                "LD_BIND_NOW=1 MALLOC_CHECK_=3 MALLOC_PERTURB_=85 MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=1 "
                "GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.hugetlb=1 PYTHONMALLOC=malloc /usr/bin/python3 -c "
                "'import json,os; d=json.load(open(os.environ[\"IN\"]+\"/data.json\")); print(len(json.dumps(d)))'"),
        Program(kind, "a daemon that closes every descriptor", "perl", "perl", "perl", r"""
perl -MPOSIX -e 'my $w=$ENV{PWD}; exit 0 if fork; POSIX::setsid(); exit 0 if fork; POSIX::close($_) for 0..1023;
chdir "/"; umask 0; my %h; for (1..60000) { $h{$_ % 5000}.="v$_" } my @p;
for (1..5) { my $p=fork; if (!$p) { my @x=map {"x"x$_} 1..2000; POSIX::_exit(@x%7) } push @p,$p }
my $s=join ",",map { waitpid $_,0; $?>>8 } @p; open F,">","$w/part"; print F scalar(keys %h)," $s\n"; close F;
rename "$w/part","$w/done"'
until_ok test -e done; cat done"""),
        Program(kind, "bash with static and static-pie children", "bash", "bash", "/sbin/ldconfig",
                "bash -c 'for i in {1..60}; do n=$(/sbin/ldconfig -p | head -$i | cksum); a[i]=$n; done; echo "
                "${#a[@]}; printf \"%s\\n\" \"${a[@]}\" | cksum'"),
        Program(kind, "su: another user's session", "su", "util-linux", "su",
                "chmod 755 .; su nobody -s /bin/bash -c 'for i in {1..3000}; do h[i]=v$i; done; echo ${#h[@]}; id -un'"),
        Program(kind, "tmux server with clients", "tmux", "tmux", "tmux", r"""
T="tmux -S $PWD/s -f /dev/null"; $T new -d -x 100 -y 40 "seq 5000; sleep 60"; sleep 0.5
for i in $(seq 12); do $T new-window "seq 900; sleep 60"; $T split-window "sleep 60"; done; sleep 0.5
$T list-windows | wc -l; $T capture-pane -t 0 -p -S -2000 | cksum; for i in $(seq 6); do $T kill-window; done
$T list-windows | wc -l; $T kill-server; sleep 0.3; test ! -S s || echo socket stays"""),
        Program(kind, "systemd's offline tools (blocks used to their usable size)", "systemctl", "systemd", "systemctl",
                r"""
mkdir -p r/etc/systemd/system r/usr/lib/tmpfiles.d; for i in $(seq 200); do
printf '[Unit]\nDescription=u%s\nAfter=u%s.service\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=m.target\n' \
    $i $((i - 1)) > r/etc/systemd/system/u$i.service; echo "d /var/t$i 0755 - - -" >> r/usr/lib/tmpfiles.d/t.conf; done
systemctl --root=$PWD/r enable $(cd r/etc/systemd/system; ls u*.service) 2>&1 | wc -l
systemctl --root=$PWD/r list-unit-files --no-pager | cksum; ls r/etc/systemd/system/m.target.wants | wc -l
systemd-analyze calendar --iterations=50 'Mon..Fri *-*-1,15 10:00/7' --base-time='2024-01-01 00:00:00' 2>/dev/null |
    grep -c Iter || true; systemd-analyze syscall-filter 2>/dev/null | cksum
systemd-tmpfiles --root=$PWD/r --create t.conf 2>/dev/null || true; ls r/var | wc -l"""),
        Program(kind, "dbus-daemon, 300 calls", "dbus-daemon", "dbus-daemon dbus-bin", "dbus-run-session",
                "dbus-run-session -- bash -c 'for i in {1..300}; do dbus-send --session --print-reply "
                "--dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames | wc -l; done | sort | uniq -c'"),
        Program(kind, "cp, rm, du, chmod in 16 processes at once", "cp", "coreutils", "cp",
                "seq 16 | xargs -P 16 -I{} sh -c 'cp -r $IN/tree t{}; chmod -R u+w t{}; du -s --apparent-size t{} | cut -f1; "
                "rm -r t{}' | sort | uniq -c"),
    ]


def languages():
    kind = "language"
    return [
        Program(kind, "emacs", "emacs-nox", "emacs-nox", "emacs-nox", r"""
emacs-nox -Q --batch --eval '(with-temp-buffer (insert-file-contents (concat (getenv "IN") "/text"))
(princ (format "%d\n" (buffer-size))) (sort-lines nil (point-min) (point-max)) (goto-char (point-min))
(while (re-search-forward "\\(struct\\|int\\) \\([a-z_]+\\)" nil t) (replace-match "\\2 \\1")) (princ (md5 (buffer-string)))
(let ((h (make-hash-table :test (quote equal)))) (dotimes (i 100000) (puthash (number-to-string (% i 7001)) (make-vector
(% i 40) i) h)) (garbage-collect) (princ (format "\n%d\n" (hash-table-count h)))))'
echo '(defun f (n) (if (< n 2) n (+ (f (- n 1)) (f (- n 2)))))' > f.el; emacs-nox -Q --batch -f batch-byte-compile f.el 2>&1
emacs-nox -Q --batch -l ./f.elc --eval '(princ (f 22))'"""),
        Program(kind, "neovim", "nvim", "neovim", "nvim",
                "cp $IN/text t; nvim --headless -u NONE -i NONE -es t +'%s/int/INT/ge' +'g/struct/m0' +'lua local s={} "
                "for i=1,200000 do s[i%5000]=(\"x\"):rep(i%90)..i end print(#s)' +'sort u' +wq; cksum t"),
        Program(kind, "program built by go, with cgo", "a", "golang-go gcc", "go", r"""
cat > a.go <<'END'
package main

/*
#include <stdlib.h>
#include <string.h>
static unsigned fill(unsigned char *p, size_t n) { memset(p, (int)n, n); return p[n - 1]; }
*/
import "C"
import ("fmt"; "os/exec"; "runtime"; "strings"; "sync"; "unsafe")

func main() {
	var team sync.WaitGroup
	sums := make([]uint64, 16)
	for t := 0; t < 16; t++ {
		team.Add(1)
		go func(t int) {
			defer team.Done()
			if t%2 == 0 { runtime.LockOSThread() } // the thread ends with the goroutine
			live := make([]unsafe.Pointer, 50)
			for i := 0; i < 20000; i++ {
				n := 1 + (i*37+t)%3000
				C.free(live[i%50])
				live[i%50] = C.malloc(C.size_t(n))
				sums[t] += uint64(C.fill((*C.uchar)(live[i%50]), C.size_t(n)))
				if i%100 == 0 { s := C.CString(strings.Repeat("x", i%900)); sums[t] += uint64(C.strlen(s)); C.free(unsafe.Pointer(s)) }
			}
			for _, p := range live { C.free(p) }
			if out, err := exec.Command("echo", "child").Output(); err != nil || string(out) != "child\n" { panic(err) }
			runtime.GC()
		}(t)
	}
	team.Wait()
	fmt.Println(sums)
}
END
env -u LD_PRELOAD GOCACHE=$PWD/c GO111MODULE=off go build -o a a.go; ./a"""),
        Program(kind, "mono", "mono-sgen", "mono-mcs mono-runtime libmono-system-core4.0-cil", "mcs", r"""
cat > a.cs <<'END'
using System; using System.Collections.Generic; using System.Linq; using System.Threading;
class A { static void Main() { var sums = new long[6]; var team = Enumerable.Range(0, 6).Select(n => new Thread(() => {
var d = new Dictionary<string, List<int>>(); for (int i = 0; i < 60000; i++) { var k = "k" + i % 3001;
if (!d.ContainsKey(k)) d[k] = new List<int>(); d[k].Add(i * n); } sums[n] = d.Values.Sum(l => (long)l.Count * l[0]); })).ToList();
team.ForEach(t => t.Start()); team.ForEach(t => t.Join()); Console.WriteLine(string.Join(" ", sums)); } }
END
mcs a.cs; mono a.exe"""),
        Program(kind, "swi-prolog (linked to tcmalloc)", "swipl", "swi-prolog-nox", "swipl",
                "swipl -g \"numlist(1,200000,L),foldl([X,A,B]>>(B is (A*31+X) mod 1000003),L,0,S),writeln(S),"
                "length(Q,9),findall(T,(between(1,6,I),thread_create((numlist(1,30000,M),msort(M,_)),T)),Ts),"
                "maplist(thread_join,Ts),atom_length(abc,N),writeln(N),length(Q,Z),writeln(Z)\" -t halt"),
        Program(kind, "octave", "octave-cli", "octave", "octave-cli",
                "octave-cli --norc -q --eval 'rand(\"seed\",5); a=reshape(mod((1:160000)*7919,1009),400,400); "
                "printf(\"%.6e\\n\",norm(a)); s=struct(); for i=1:20000 s.(sprintf(\"k%d\",mod(i,800)))=repmat(i,1,mod(i,90)); "
                "end; disp(numfields(s)); disp(size(inv(a+eye(400))))'"),
        Program(kind, "sbcl", "sbcl", "sbcl", "sbcl",
                "sbcl --noinform --non-interactive --no-userinit --eval '(let ((h (make-hash-table :test (quote equal)))) "
                "(dotimes (i 200000) (setf (gethash (format nil \"~d\" (mod i 7001)) h) (make-string (mod i 90)))) "
                "(print (hash-table-count h)))' --eval '(compile (defun f (n) (if (< n 2) n (+ (f (- n 1)) (f (- n 2))))))' "
                "--eval '(print (f 24))'"),
        Program(kind, "ocamlopt and what it built", "a", "ocaml-nox", "ocamlopt",
                "echo 'let () = let t = Hashtbl.create 9 in for i = 1 to 300000 do Hashtbl.replace t (i mod 5003) "
                "(Bytes.create (i mod 5000)) done; Gc.compact (); let a = Bigarray.(Array1.create float64 c_layout 300000) in "
                "Bigarray.Array1.fill a 2.; print_int (Hashtbl.length t)' > x.ml; ocamlopt x.ml -o a; ./a"),
        Program(kind, "program built by gfortran", "a", "gfortran", "gfortran", r"""
cat > a.f90 <<'END'
program a
  real(8), allocatable :: x(:, :), y(:)
  character(len=:), allocatable :: s
  integer :: i
  s = ''
  do i = 1, 3000
    if (allocated(y)) deallocate (y)
    allocate (y(i * 7)); y = i; s = s // char(97 + mod(i, 26))
  end do
  allocate (x(500, 500)); x = 1.5d0; x = matmul(x, x)
  print '(f12.3, i8, f12.1)', x(3, 4), len(s), sum(y)
end program
END
gfortran -O2 a.f90 -o a; ./a"""),
        Program(kind, "program built by gnat", "a", "gnat", "gnatmake", r"""
cat > a.adb <<'END'
with Ada.Text_IO; with Ada.Containers.Indefinite_Ordered_Maps;
procedure A is
   package Maps is new Ada.Containers.Indefinite_Ordered_Maps (String, String);
   task type Worker;
   task body Worker is
      M : Maps.Map;
   begin
      for I in 1 .. 40_000 loop
         M.Include (Integer'Image (I mod 999), (1 .. I mod 70 => 'x'));
      end loop;
      Ada.Text_IO.Put_Line (M.Length'Image);
   end Worker;
   Team : array (1 .. 6) of Worker;
begin
   null;
end A;
END
gnatmake -q -O1 a.adb; ./a"""),
        Program(kind, "python3 with numpy and pandas", "python3.11", "python3-numpy python3-pandas",
                "/usr/lib/python3/dist-packages/pandas/__init__.py", r"""/usr/bin/python3 - <<'END'
import numpy as np, os, pandas as pd
a = (np.arange(360000, dtype=float).reshape(600, 600) * 7919) % 1009
print("%.6e" % np.linalg.norm(a @ a.T), a.sort(axis=0), "%.3f" % a[3].sum())
f = pd.read_csv(os.environ["IN"] + "/data.csv", names=["i", "n", "p"])
print(f.groupby(f.n.str[:2]).p.agg(["count", "mean"]).round(5).to_string())
print(f.merge(f, on="n").sort_values("p_x").tail(3).to_string(), f.n.str.replace("7", "x", regex=False).nunique())
END"""),
        Program(kind, "fish", "fish", "fish", "fish",
                "fish --no-config -c 'for i in (seq 3000); set -g v$i (string repeat -n (math $i % 50) x); end; count (set -n "
                "| string match \"v*\"); seq 20000 | string replace -r \"(.)(.)\" \"\\$2\\$1\" | cksum'"),
    ]


def more_servers():
    kind = "server under load"
    return [
        Program(kind, "apache2 (threads) with ab", "apache2", "apache2 apache2-utils", "apache2", r"""
mkdir www; cp $IN/page.html $IN/text www/; chmod 755 . www; M=/usr/lib/apache2/modules
{ for m in mpm_event authz_core dir mime deflate filter alias rewrite; do echo "LoadModule ${m}_module $M/mod_$m.so"; done
printf '%s\n' "ServerRoot $PWD" "ServerName x" "Listen 127.0.0.1:$PORT" "PidFile $PWD/pid" "ErrorLog $PWD/err" \
    "Mutex pthread" "DocumentRoot $PWD/www" "TypesConfig /etc/mime.types" "User www-data" "Group www-data" \
    "MaxKeepAliveRequests 0" "KeepAliveTimeout 60" "AddOutputFilterByType DEFLATE text/html" "RewriteEngine on" \
    "RewriteRule ^/r/(.*) /\$1"; } > c
apache2 -f $PWD/c -D FOREGROUND & S=$!; until_ok curl -sf http://127.0.0.1:$PORT/text
ab -q -n 3000 -c 10 -k -H 'Accept-Encoding: gzip' http://127.0.0.1:$PORT/r/page.html | grep -E '^(Complete|Failed)'
curl -s http://127.0.0.1:$PORT/text | cksum; apache2 -f $PWD/c -k graceful; sleep 1
curl -s --compressed http://127.0.0.1:$PORT/r/page.html | cksum; kill -TERM $S; wait $S; echo $?
grep -c 'exit signal' err || true"""),
        Program(kind, "bind9 with 600 queries", "named", "bind9 bind9-dnsutils", "named", r"""
chmod 777 .; { echo '$TTL 60'; echo '@ SOA a. b. 1 2 3 4 5'; echo '@ NS a.'; for i in $(seq 5000); do
echo "h$i A 10.0.$((i / 250)).$((i % 250))"; done; } > z
cat > c <<END
options { directory "$PWD"; pid-file "$PWD/pid"; listen-on port $PORT { 127.0.0.1; }; listen-on-v6 { none; };
recursion no; session-keyfile "$PWD/k"; }; controls { }; zone "x.test" { type master; file "$PWD/z"; };
END
named -f -n 2 -c $PWD/c 2>log & S=$!; D="dig @127.0.0.1 -p $PORT +short"; until_ok $D +time=1 +tries=1 h1.x.test
for i in $(seq 600); do echo h$((i * 7)).x.test; done > q; $D -f q | cksum; $D axfr x.test | wc -l; kill $S; wait $S; echo $?"""),
        Program(kind, "unbound with 600 queries", "unbound", "unbound bind9-dnsutils", "unbound", r"""
{ printf '%s\n' server: "interface: 127.0.0.1@$PORT" 'num-threads: 2' 'chroot: ""' 'username: ""' "directory: \"$PWD\"" \
    'use-syslog: no' "logfile: \"$PWD/log\"" 'pidfile: ""' 'local-zone: "x.test." static' 'do-daemonize: no'
for i in $(seq 5000); do echo "local-data: \"h$i.x.test. A 10.0.$((i / 250)).$((i % 250))\""; done; } > c
unbound -d -c $PWD/c & S=$!; D="dig @127.0.0.1 -p $PORT +short"; until_ok $D +time=1 +tries=1 h1.x.test
for i in $(seq 600); do echo h$((i * 7)).x.test; done > q; $D -f q | cksum; kill $S; wait $S; echo $?"""),
        Program(kind, "mosquitto with clients", "mosquitto", "mosquitto mosquitto-clients", "mosquitto", r"""
printf 'listener %s 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n' $PORT > c; mosquitto -c c >log 2>&1 & S=$!
until_ok mosquitto_pub -p $PORT -t ready -m 1
for n in 1 2 3 4; do mosquitto_sub -p $PORT -t 'a/#' -q 1 -C 2000 > s$n & W="${W-} $!"; done; sleep 0.7
seq 2000 | mosquitto_pub -p $PORT -t a/b -q 1 -l; wait $W; cksum s1 s2 s3 s4; kill $S; wait $S; echo $?"""),
        Program(kind, "slapd: 3,000 entries, searches", "slapd", "slapd ldap-utils", "slapd", r"""
mkdir d; printf '%s\n' 'include /etc/ldap/schema/core.schema' "pidfile $PWD/pid" 'modulepath /usr/lib/ldap' \
    'moduleload back_mdb' 'database mdb' 'suffix "dc=x"' 'rootdn "cn=r,dc=x"' 'rootpw s' "directory $PWD/d" \
    'index cn eq,sub' 'maxsize 67108864' 'sizelimit unlimited' > c
{ printf 'dn: dc=x\nobjectClass: dcObject\nobjectClass: organization\ndc: x\no: x\n\n'; for i in $(seq 3000); do
printf 'dn: cn=u%s,dc=x\nobjectClass: person\ncn: u%s\nsn: s%s\ndescription: %0*d\n\n' $i $i $i $((i % 90)) $i; done; } > l
slapadd -q -f c -l l; slapd -f $PWD/c -h ldap://127.0.0.1:$PORT -d 0 & S=$!
L="ldapsearch -x -LLL -H ldap://127.0.0.1:$PORT -b dc=x"; until_ok $L -s base
for i in $(seq 25); do $L "(cn=u$i*)" sn; done | cksum; $L '(description=*7*)' cn | grep -c ^cn
for i in $(seq 40); do printf 'dn: cn=u%s,dc=x\nchangetype: modify\nreplace: sn\nsn: t\n\n' $i; done |
ldapmodify -x -D cn=r,dc=x -w s -H ldap://127.0.0.1:$PORT | wc -l; kill -INT $S; wait $S; echo $?"""),
        Program(kind, "rocksdb's db_bench", "db_bench", "rocksdb-tools", "/usr/bin/db_bench", r"""
db_bench --benchmarks=fillrandom,readrandom,overwrite,compact,readseq --db=$PWD/d --num=40000 --threads=4 --value_size=300 \
    --write_buffer_size=1000000 --max_background_jobs=4 --cache_size=2000000 --bloom_bits=10 --seed=7 --stats_interval=0 \
    > log 2>&1; grep -cE 'micros/op' log; ls d | grep -c sst | sed 's/[0-9][0-9]*/n/'"""),
        Program(kind, "iperf3", "iperf3", "iperf3", "iperf3",
                "iperf3 -s -1 -B 127.0.0.1 -p $PORT >/dev/null & sleep 0.7; iperf3 -c 127.0.0.1 -p $PORT -P 6 -t 2 -J | "
                "env -u LD_PRELOAD grep -c '\"socket\"' | sed 's/[0-9][0-9]*/n/'; wait"),
    ]


def more_tools():
    kind = "tool"
    return [
        Program(kind, "libreoffice headless", "soffice.bin", "libreoffice-writer-nogui", "soffice", r"""
{ echo '<html><body>'; for i in $(seq 400); do echo "<h2>S$i</h2><p>Text <b>$i</b></p><table><tr><td>$i</td></tr></table>"; done
echo '</body></html>'; } > a.html
soffice --headless -env:UserInstallation=file://$PWD/u --convert-to odt:writer8 --infilter='HTML (StarWriter)' a.html >/dev/null 2>&1
soffice --headless -env:UserInstallation=file://$PWD/u --convert-to txt:Text a.odt >/dev/null 2>&1; cksum a.txt
soffice --headless -env:UserInstallation=file://$PWD/u --convert-to docx a.odt >/dev/null 2>&1; ls a.*"""),
        Program(kind, "gstreamer, pipelines of threads", "gst-launch-1.0", "gstreamer1.0-tools gstreamer1.0-plugins-base "
                "gstreamer1.0-plugins-good", "gst-launch-1.0",
                "for p in smpte ball snow; do gst-launch-1.0 -q videotestsrc num-buffers=150 pattern=$p ! "
                "video/x-raw,width=320,height=240 ! queue ! videoconvert ! jpegenc ! queue ! jpegdec ! queue ! videoscale ! "
                "filesink location=$p; cksum $p; done; gst-launch-1.0 -q audiotestsrc num-buffers=500 ! queue ! "
                "audioresample ! wavenc ! filesink location=w; cksum w"),
        Program(kind, "povray", "povray", "povray", "povray", r"""
{ echo 'camera { location <0,2,-30> look_at 0 } light_source { <9,9,-9>, 1 }'; for i in $(seq 400); do
echo "sphere { <$((i % 20 - 10)),$((i / 20 - 10)),$((i % 7))>, 0.6 pigment { bozo } finish { reflection 0.2 } }"; done; } > a.pov
povray -D +Ia.pov +Oa.ppm +FP +W200 +H150 +WT4 +A0.3 -J >/dev/null 2>&1; tail -c 90000 a.ppm | cksum"""),
        Program(kind, "graphviz dot", "libgvc6-config-update", "graphviz", "/usr/bin/dot",
                "{ echo 'digraph g {'; for i in $(seq 70); do echo \"n$i -> n$((i * 7 % 70)); n$i -> n$((i / 2)) "
                "[label=\\\"e$i\\\"]\"; done; echo '}'; } > a.dot; dot -Tsvg a.dot | cksum; neato -Tplain a.dot | cksum"),
        Program(kind, "ripgrep", "rg", "ripgrep", "rg",
                "rg -j4 --sort path -n '(\\w+)_t \\*(\\w+);' $IN/tree | wc -l; rg -j4 -c struct $IN/tree | sort | cksum"),
        Program(kind, "openmpi, 4 processes", "a", "openmpi-bin libopenmpi-dev", "mpicc", r"""
cat > a.c <<'END'
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
    int me, all; long sum = 0, total;
    MPI_Init(&argc, &argv); MPI_Comm_rank(MPI_COMM_WORLD, &me); MPI_Comm_size(MPI_COMM_WORLD, &all);
    for (int i = 1; i < 400; i++) {
        size_t n = (size_t)i * 3001; char *out = malloc(n), *in = malloc(n); memset(out, me + i, n);
        MPI_Sendrecv(out, (int)n, MPI_CHAR, (me + 1) % all, 0, in, (int)n, MPI_CHAR, (me + all - 1) % all, 0,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        sum += (unsigned char)in[n - 1]; free(out); free(in);
    }
    MPI_Reduce(&sum, &total, 1, MPI_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
    if (me == 0) printf("%d %ld\n", all, total);
    MPI_Finalize();
}
END
env -u LD_PRELOAD mpicc -O1 a.c -o a
mpirun --allow-run-as-root --oversubscribe --mca btl self,vader,tcp -np 4 ./a 2>/dev/null"""),
        Program(kind, "qemu-img, qemu-io", "qemu-img", "qemu-utils", "qemu-img",
                "head -c 40000000 $IN/big > raw; qemu-img convert -m 8 -W -c -O qcow2 raw q; qemu-img convert -m 8 -O vmdk q v; "
                "qemu-img convert -O raw v r; cmp -n $(stat -c %s raw) raw r && echo same; qemu-img check q | head -1; "
                "qemu-img bench -c 2000 -d 32 -f qcow2 q | sed -n 1p; qemu-io -c 'write -P 7 1M 3M' -c 'read -P 7 2M 1M' q | "
                "grep -c wrote"),
        Program(kind, "qpdf, mutool", "mutool", "qpdf mupdf-tools ghostscript groff", "mutool",
                "{ groff -Tps $IN/text 2>/dev/null || true; } | head -c 4000000 > a.ps; env -u LD_PRELOAD ps2pdf a.ps a.pdf "
                ">/dev/null 2>&1 || true; mutool draw -q -F txt a.pdf 1-40 | cksum; mutool draw -q -r 60 -o p%d.pnm a.pdf 1-12; "
                "cat p*.pnm | cksum; qpdf --qdf --deterministic-id a.pdf b.pdf; qpdf --check b.pdf | tail -1"),
        Program(kind, "tesseract (OpenMP)", "tesseract", "tesseract-ocr tesseract-ocr-eng imagemagick fonts-dejavu-core",
                "tesseract", "env -u LD_PRELOAD /usr/bin/convert -size 900x500 -pointsize 30 caption:'The quick brown fox "
                "jumps over the lazy dog while many allocators come and go 12345' a.png; OMP_THREAD_LIMIT=2 tesseract a.png - "
                "2>/dev/null"),
        Program(kind, "clamscan", "clamscan", "clamav", "clamscan",
                "printf 'T1:0:*:%s\\n' $(printf 'struct file_operations' | od -An -tx1 | tr -d ' \\n') > s.ndb; "
                "clamscan -d s.ndb -r --infected --no-summary $IN/tree | sed \"s|$IN||\" | sort | head -20 || true; "
                "clamscan -d s.ndb --no-summary $IN/names | sed 's/.*: //'"),
        Program(kind, "sox", "sox", "sox", "sox",
                "sox -n -r 44100 -c 2 a.wav synth 20 sine 300-3300 vol 0.5; sox -D a.wav b.wav rate 22050 reverb echo 0.8 0.9 "
                "100 0.3 tempo 1.3 dither -S 2>/dev/null || true; sox b.wav -n stat 2>&1 | sed -n 1,6p"),
        Program(kind, "gnuplot", "gnuplot-nox", "gnuplot-nox", "gnuplot",
                "gnuplot -e 'set term svg; set samples 3000; set isosamples 60; splot sin(x)*cos(y)' | cksum; gnuplot -e "
                "\"set term dumb; set datafile separator ','; plot '$IN/data.csv' using 1:3\" | cksum"),
        Program(kind, "openscad", "openscad", "openscad", "openscad",
                "echo 'difference() { cube(20, center=true); for (i=[0:5:60]) rotate([i,i*2,0]) cylinder(r=2, h=50, "
                "center=true, $fn=12); }' > a.scad; openscad -o a.stl a.scad >/dev/null 2>&1; wc -l < a.stl"),
    ]
