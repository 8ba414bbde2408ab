"""Databases, servers, media, documents, a browser and tools: the second half of the list in realprograms.py."""
from realprograms import Program


def databases():
    kind = "database"
    return [
        Program(kind, "postgresql with pgbench", "postgres", "postgresql", "/usr/lib/postgresql/*/bin/pgbench", r"""
B=$(echo /usr/lib/postgresql/*/bin | sed 's/ .*//'); chmod 777 . ; U=postgres; D=$PWD/d
as $U $B/initdb -D $D -A trust -U postgres --no-sync >/dev/null
as $U $B/pg_ctl -D $D -w -l $PWD/log \
    -o "-c listen_addresses=127.0.0.1 -p $PORT -c fsync=off -c unix_socket_directories=$PWD" start >/dev/null
trap 'as $U $B/pg_ctl -D $D -m immediate stop >/dev/null 2>&1 || true' EXIT
Q="-h 127.0.0.1 -p $PORT -U postgres"
$B/pgbench $Q -i -s 3 -q postgres 2>/dev/null
$B/pgbench $Q -c 8 -j 4 -t 300 -n postgres 2>&1 | grep -E 'processed|failed'
$B/pgbench $Q -c 8 -j 2 -S -M prepared -t 1500 -n postgres 2>&1 | grep -E 'processed|failed'
$B/psql $Q -At postgres <<'END'
select count(*), sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts;
create table t as select i, md5(i::text) m, jsonb_build_object('a', i, 'b', array[i, i+1]) j
from generate_series(1, 60000) i;
create index on t (m); create index on t using gin (j); set max_parallel_workers_per_gather = 4; set work_mem = '1MB';
select count(*), md5(string_agg(m, ',' order by m)) from t where j @> '{"a": 7}' or i % 3 = 0;
select substr(m, 1, 1) c, count(*), max(length(j::text)) from t group by 1 order by 1;
do $$ declare s text := ''; begin for i in 1..4000 loop s := s || md5(i::text); end loop;
raise notice '%', length(s); end $$;
END
as $U $B/pg_ctl -D $D -m fast -w stop >/dev/null; trap - EXIT; grep -cE 'PANIC|FATAL|signal' log || true"""),
        Program(kind, "redis with redis-benchmark", "redis-check-rdb", "redis-server", "redis-server", r"""
redis-server --port $PORT --bind 127.0.0.1 --save '' --appendonly yes --dir . \
    --io-threads 2 --maxmemory 60mb --maxmemory-policy allkeys-lru >log & S=$!
C="redis-cli -p $PORT"; until_ok $C ping
redis-benchmark -p $PORT -q -n 20000 -c 30 -P 8 -r 50000 -d 300 -t set,get,lpush,lpop,sadd,zadd,hset,lrange_100 |
sed 's/\r/\n/g' | grep -c 'requests per second'
$C flushall; $C debug populate 30000 key 200; $C dbsize;
$C --raw eval "local t={} for i=1,20000 do t[i]=redis.call('hset','h'..(i%50),i,string.rep('x',i%100)) end return #t" 0
$C bgrewriteaof; sleep 0.5; $C save; $C --raw hlen h7; $C debug reload; $C --raw hlen h7; $C shutdown; wait $S;
echo $?"""),
        Program(kind, "sqlite3", "sqlite3", "sqlite3", "sqlite3", r"""sqlite3 t.db <<'END'
create table t(i integer primary key, n text, p real);
.mode csv
.import "| cat $IN/data.csv" t
create index a on t(n); select count(*), round(sum(p), 3) from t; pragma integrity_check;
with recursive c(x) as (select 1 union all select x+1 from c where x<200000) select count(distinct x*7919%10007) from c;
select substr(n,1,2) k, count(*), group_concat(substr(n,3,2)) from (select * from t order by n limit 500)
group by k order by k;
create virtual table f using fts5(b); insert into f select n||' '||i from t;
select count(*) from f where f match '1234*';
delete from t where i%3=0; vacuum; select count(*) from t;
END"""),
        Program(kind, "mariadb with mariadb-slap", "mariadbd", "mariadb-server", "mariadbd", r"""
chmod 777 .; mkdir d; chmod 777 d; U=mysql; S=$PWD/s
as $U mariadb-install-db --no-defaults --datadir=$PWD/d \
    --auth-root-authentication-method=normal --skip-test-db >log0 2>&1
as $U mariadbd --no-defaults --datadir=$PWD/d --socket=$S --port=$PORT --bind-address=127.0.0.1 \
    --innodb-flush-method=nosync --pid-file=$PWD/pid --innodb-buffer-pool-size=64M >log 2>&1 & M=$!
until_ok mariadb-admin -u root -S $S ping
mariadb-slap --no-defaults -u root -S $S --auto-generate-sql --auto-generate-sql-load-type=mixed \
    --number-of-queries=4000 --concurrency=12 --auto-generate-sql-add-autoincrement --csv=slap 2>&1; cut -d, -f6- slap
mariadb --no-defaults -u root -S $S -B -e "create database x; use x;
create table t(i int primary key auto_increment, m varchar(64), key(m)) engine=innodb;
insert into t(m) select md5(seq) from seq_1_to_40000; select count(*), md5(group_concat(m order by m limit 900)) from t;
select substr(m,1,1) c, count(*), max(length(repeat(m,seq%50))) from t join seq_1_to_3 group by c order by c;
check table t; alter table t add f text, add fulltext(f);
update t set f=concat(m,' ',i); select count(*) from t where match(f) against('777');"
mariadb-admin --no-defaults -u root -S $S shutdown; wait $M; echo $?; grep -c 'got signal' log || true"""),
    ]


def servers():
    kind = "server under load"
    wrk = ("wrk -t2 -c40 -d3 {} > w 2>&1; awk '/requests in/{{print ($1>100)?\"many requests\":\"few: \"$1}} "
           "/Non-2xx/{{print}} /Socket errors/{{print}}' w")
    return [
        Program(kind, "nginx with wrk", "nginx", "nginx-light", "nginx", r"""
mkdir www; cp $IN/page.html $IN/text www/; chmod 755 . www
cat > c <<END
worker_processes 2; daemon off; pid $PWD/pid; error_log $PWD/err; events { worker_connections 256; }
http { access_log off; gzip on; gzip_types text/html; gzip_min_length 100; client_body_temp_path $PWD/b;
proxy_temp_path $PWD/p; fastcgi_temp_path $PWD/f;
uwsgi_temp_path $PWD/u; scgi_temp_path $PWD/s; server { listen 127.0.0.1:$PORT; root $PWD/www;
location /p/ { proxy_pass http://127.0.0.1:$PORT/; } } }
END
nginx -c $PWD/c -p $PWD & N=$!; until_ok curl -sf http://127.0.0.1:$PORT/page.html
""" + wrk.format("-H 'Accept-Encoding: gzip' http://127.0.0.1:$PORT/p/page.html") + r"""
curl -s http://127.0.0.1:$PORT/text | cksum; curl -s --compressed http://127.0.0.1:$PORT/p/page.html | cksum;
curl -s -o /dev/null -w '%{http_code}\n' http://127.0.0.1:$PORT/none
kill -HUP $N; sleep 0.5; curl -s http://127.0.0.1:$PORT/text | cksum; kill -QUIT $N; wait $N; echo $?;
grep -c 'exited on signal' err || true"""),
        Program(kind, "haproxy with wrk", "haproxy", "haproxy", "haproxy", r"""
mkdir www; head -c 9000 $IN/page.html > www/page.html
cat > c <<END
global
  nbthread 2
defaults
  mode http
  timeout client 9s
  timeout server 9s
  timeout connect 9s
frontend f
  bind 127.0.0.1:$PORT
  http-request set-header X-A %[path,lower,regsub(a,b,g)]
  http-request return status 200 content-type text/plain string "hello" if { path_beg /h }
  default_backend b
backend b
  balance leastconn
  server s 127.0.0.1:$((PORT + 1))
frontend g
  bind 127.0.0.1:$((PORT + 1))
  http-request return status 200 content-type text/html file $PWD/www/page.html
END
haproxy -q -db -f c & H=$!; until_ok curl -sf http://127.0.0.1:$PORT/h
""" + wrk.format("http://127.0.0.1:$PORT/page.html") + r"""
curl -s http://127.0.0.1:$PORT/x | cksum; curl -s http://127.0.0.1:$PORT/hh; kill -USR1 $H; wait $H; echo " $?" """),
        Program(kind, "memcached, 30,000 sets and gets", "memcached", "memcached", "memcached", r"""
memcached -u nobody -l 127.0.0.1 -p $PORT -m 64 -t 4 & M=$!
env -u LD_PRELOAD /usr/bin/python3 - $PORT <<'END'
import socket, sys, threading, time
def work(n, out):
    for _ in range(100):
        try: s = socket.create_connection(("127.0.0.1", int(sys.argv[1]))); break
        except OSError: time.sleep(0.1)
    f = s.makefile("rwb"); good = 0
    for i in range(5000):
        v = b"%d" % i * (i % 300 + 1)
        f.write(b"set k%d_%d 0 0 %d\r\n%s\r\nget k%d_%d\r\n" % (n, i % 700, len(v), v, n, i % 700)); f.flush()
        good += f.readline() == b"STORED\r\n"; f.readline(); good += f.readline() == v + b"\r\n"; f.readline()
    out[n] = good
out = [0] * 6
team = [threading.Thread(target=work, args=(n, out)) for n in range(6)]
[t.start() for t in team]; [t.join() for t in team]; print(out)
END
kill $M; wait $M; echo $?"""),
        Program(kind, "openssl s_server", "openssl", "openssl", "openssl", r"""
openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -days 2 -subj /CN=x 2>/dev/null
openssl s_server -accept 127.0.0.1:$PORT -key k -cert c -quiet -WWW & S=$!; cp $IN/text .
until_ok curl -skf https://127.0.0.1:$PORT/text
for i in $(seq 30); do curl -sk https://127.0.0.1:$PORT/text | cksum; done | uniq -c; kill $S; wait $S || echo $?"""),
    ]


def media_and_documents():
    kind = "media or document"
    return [
        Program(kind, "ffmpeg", "ffmpeg", "ffmpeg", "ffmpeg",
                "ffmpeg -v error -f lavfi -i testsrc2=s=640x360:d=3 -f lavfi -i sine=d=3 -c:v libx264 -threads 4 "
                "-preset fast -c:a aac "
                "-bitexact -fflags +bitexact -y a.mp4; ffmpeg -v error -i a.mp4 -vf scale=320:-1,hue=s=0 -f framemd5 "
                "- | tail -3; "
                "ffmpeg -v error -i a.mp4 -c:v libvpx -threads 2 -b:v 300k -t 1 -c:a libvorbis -y b.webm; ffprobe -v "
                "error -show_entries stream=codec_name,nb_frames -of csv b.webm"),
        Program(kind, "imagemagick", "convert-im6.q16", "imagemagick", "/usr/bin/convert",
                "/usr/bin/convert logo: -resize 300% -blur 0x3 -rotate 17 -quantize YUV -colors 64 a.png; "
                "/usr/bin/convert a.png -resize 50% rgb:- | cksum; "
                "/usr/bin/convert -size 800x600 plasma:tomato-steelblue -seed 3 -swirl 90 -quality 80 b.jpg; "
                "/usr/bin/identify -format '%m %w %h\\n' a.png b.jpg; "
                "/usr/bin/montage -geometry 100x100 rose: granite: wizard: m.png; /usr/bin/convert m.png rgb:- | "
                "cksum"),
        Program(kind, "ghostscript", "gs", "ghostscript groff", "gs",
                "groff -Tps $IN/text > a.ps 2>/dev/null || true; gs -q -dBATCH -dNOPAUSE -sDEVICE=png16m -r60 "
                "-dLastPage=12 -sOutputFile=p%d.png a.ps; cat p*.png | cksum; "
                "gs -q -dBATCH -dNOPAUSE -sDEVICE=pdfwrite -sOutputFile=a.pdf a.ps; gs -q -dBATCH -dNOPAUSE "
                "-sDEVICE=txtwrite -sOutputFile=- a.pdf | cksum"),
        Program(kind, "groff", "troff", "groff", "groff", "{ groff -Tutf8 $IN/text 2>/dev/null || true; } | cksum"),
        Program(kind, "inkscape", "inkscape", "inkscape", "inkscape", r"""
{ echo "<svg xmlns='http://www.w3.org/2000/svg' width='600' height='600'><defs>"
echo "<filter id='f'><feGaussianBlur stdDeviation='3'/></filter></defs>"
for i in $(seq 400); do echo "<path d='M$i,$((i*7%600)) C $((i*3%600)),10 $((i*11%600)),500 $((i*13%600)),$i'"
echo " fill='none' stroke='#$((100000+i*977))' filter='url(#f)'/>"
echo "<text x='$((i%500))' y='$((i*5%600))'>t$i</text>"; done; echo "</svg>"; } > a.svg
inkscape a.svg --export-type=png --export-filename=a.png >/dev/null 2>&1;
/usr/bin/env -u LD_PRELOAD /usr/bin/convert a.png rgb:- | cksum
inkscape a.svg --export-plain-svg --export-filename=b.svg >/dev/null 2>&1; cksum < b.svg"""),
        Program(kind, "pdflatex", "pdftex", "texlive-latex-base", "pdflatex", r"""
{ echo '\documentclass{article}\begin{document}\tableofcontents'; for i in $(seq 120);
do echo "\\section{S$i} Some text \$x^{$i}+\\frac{1}{$i}\$ \\begin{tabular}{ll}a&b\\\\c&d\\end{tabular}";
seq -s ' ' 400; done; echo '\end{document}'; } > a.tex
for i in 1 2; do pdflatex -interaction=batchmode a.tex >/dev/null; done; cksum a.pdf a.toc | sed 's/^/x /'"""),
        Program(kind, "pdftotext, pdftoppm", "pdftotext", "poppler-utils ghostscript groff", "pdftotext",
                "{ groff -Tps $IN/text 2>/dev/null || true; } | env -u LD_PRELOAD ps2pdf - a.pdf; pdftotext -layout "
                "a.pdf - | cksum; pdftoppm -r 50 -l 10 a.pdf p; cat p*.ppm | cksum"),
        Program(kind, "pandoc", "pandoc", "pandoc", "pandoc", "head -3000 $IN/text | pandoc -f markdown -t html | "
                                        "cksum; pandoc $IN/page.html -t latex | cksum"),
        Program(kind, "chromium headless", "chromium", "chromium", "chromium",
                "timeout 100 chromium --headless --no-sandbox --disable-gpu --no-first-run --user-data-dir=$PWD/u "
                "--dump-dom file://$IN/page.html 2>/dev/null | cksum; "
                "timeout 100 chromium --headless --no-sandbox --disable-gpu --user-data-dir=$PWD/u "
                "--window-size=800,600 --screenshot=$PWD/s.png file://$IN/page.html 2>/dev/null; "
                "env -u LD_PRELOAD /usr/bin/convert s.png rgb:- | cksum"),
    ]


def tools():
    kind = "tool"
    return [
        Program(kind, "git", "git", "git", "git", r"""
export GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
git init -q -b m r; cd r; git config user.name n; git config user.email e@x; cp -r $IN/tree .; git add -A;
git commit -qm one
for i in 1 2 3; do sed -i "s/struct/s$i/" tree/linux/[a-f]*.h; git commit -qam c$i; done
git repack -adq --threads=4 --depth=50 --window=50; git fsck --full --no-progress 2>&1; git log --stat | cksum;
git blame tree/linux/audit.h | cksum; git grep -c s1 | cksum
git clone -q . ../s; cd ../s; git diff HEAD~2 | cksum; git gc -q --aggressive; git archive HEAD | cksum"""),
        Program(kind, "rsync", "rsync", "rsync", "rsync",
                "rsync -a $IN/tree a; cp -r a b; find b -name 'a*.h' -exec sed -i s/int/long/ {} +; rsync -ac "
                "--delete --stats --no-whole-file b/ a/ | grep -E 'Number of (reg|cre)|Literal|Matched'; diff -r a b "
                "&& echo same"),
        Program(kind, "tar with gzip, xz, zstd", "xz", "xz-utils zstd", "zstd",
                "tar --sort=name --mtime=@0 --owner=0 --group=0 -cf t.tar -C $IN tree; gzip -nc t.tar | cksum; xz "
                "-T2 -3c t.tar | xz -dc | cksum; zstd -q -T4 -7c t.tar | zstd -dc | cksum; bzip2 -c t.tar | cksum; "
                "tar -xf t.tar; diff -r tree $IN/tree && echo same"),
        Program(kind, "openssl", "openssl", "openssl", "openssl",
                "openssl genrsa 2048 2>/dev/null >k; openssl rsa -in k -check -noout 2>&1; for a in aes-256-gcm "
                "chacha20; do :; done; openssl enc -aes-256-cbc -pbkdf2 -pass pass:x -in $IN/big | openssl enc -d "
                "-aes-256-cbc -pbkdf2 -pass pass:x | cksum; "
                "openssl dgst -sha3-512 $IN/big; openssl req -x509 -key k -subj /CN=x -days 3 -out c; openssl verify "
                "-CAfile c c; openssl speed -seconds 1 -multi 2 sha256 2>&1 | grep -c '^sha256' || true"),
        Program(kind, "gpg", "gpg", "gpg", "gpg",
                "mkdir -m 700 g; gpg --homedir g --batch --quiet --passphrase x --pinentry-mode loopback -c "
                "--cipher-algo AES256 -o t.gpg $IN/text; gpg --homedir g --batch --quiet --passphrase x "
                "--pinentry-mode loopback -d t.gpg | cksum; gpgconf --homedir g --kill all"),
        Program(kind, "curl", "curl", "curl", "curl", "for i in $(seq 40); do echo \"url=file://$IN/text\"; echo "
                                        "\"output=o$i\"; done > c; curl -s --parallel -K c; cat o* | cksum"),
        Program(kind, "gdb", "gdb", "gdb", "gdb",
                "env -u LD_PRELOAD gcc -g -x c - -o a <<< 'int f(int n) { return n ? n + f(n - 1) : 0; } int "
                "main(void) { return f(9) & 1; }'; "
                "gdb -q -nx -batch -ex 'set startup-with-shell off' -ex 'break f if n==0' -ex run -ex bt -ex "
                "continue ./a 2>&1 | sed -E 's/0x[0-9a-f]+/X/g; s/process [0-9]+/process/' | grep -E '^#|exited'"),
        Program(kind, "objdump, readelf, strip (binutils)", "x86_64-linux-gnu-objdump", "binutils", "objdump",
                "cp /usr/bin/bash b; objdump -d b | cksum; readelf -aW b | cksum; strip -g b; nm -D b | cksum"),
        Program(kind, "apt-cache, dpkg", "apt-cache", "apt", "apt-cache", "apt-cache -o Dir::Cache=$PWD dumpavail "
                ">/dev/null; apt-cache -o Dir::Cache=$PWD depends --recurse gcc | sort | cksum; dpkg -l | cksum"),
    ] + [
        Program("stress-ng", f"stress-ng --{name} {more}".strip(), "stress-ng", "stress-ng", "stress-ng",
                f"s=0; stress-ng --{name} 4 --{name}-ops {ops} --timeout 60 --verify {more} >log 2>&1 || s=$?; "
                "sed -nE '/fail|signal|rnalloc/{s/[0-9]{3,}/N/g;p}' log | grep -v 'failed: 0' || true; exit $s")
        for name, ops, more in (("malloc", 200000, "--malloc-bytes 64M"), ("malloc", 100000, "--malloc-bytes 256M "
                "--malloc-pthreads 4 --malloc-touch"),
                                ("bigheap", 8000, "--bigheap-growth 64K"), ("fork", 3000, ""),
                                ("pthread", 3000, ""), ("vfork", 3000, ""),
                                ("tree", 20, ""), ("qsort", 10, ""))
    ]
