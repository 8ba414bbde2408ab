# threads.py: a deterministic multi-threaded workload for the smoke test; prints one digest.
import hashlib
import json
import subprocess
import threading
import zlib

results = {}


def work(number):
    digest = hashlib.sha256()
    kept = []
    for i in range(3000):
        text = ("%d:%d;" % (number, i)) * (i % 90)
        kept.append(text)
        if i % 7 == 0:
            kept = kept[len(kept) // 2:]
        digest.update(zlib.compress(text.encode()))
        digest.update(json.dumps({"n": number, "list": list(range(i % 50))}).encode())
    results[number] = digest.hexdigest()


threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
child = subprocess.run(["/bin/echo", "a child"], stdout=subprocess.PIPE, check=True)
total = hashlib.sha256("".join(results[n] for n in sorted(results)).encode()).hexdigest()
print(total, child.stdout.decode().strip(), sum(len(str(n)) for n in range(200000)))
