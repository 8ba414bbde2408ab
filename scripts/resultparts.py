"""The parts that scripts/results measures: each gives one JSON file of its own, with its own machine, date and form."""
import pathlib
import subprocess
import time

import benchlib
from benchlib import Allocator, Failure
from benchruns import MEMORY, TIME, Cell, Replay, Runs

SCRIPTS = pathlib.Path(__file__).resolve().parent
TRACES = benchlib.ROOT / "rnbench/traces"
LINES = ("slots", "larson")
LATENCY = (("larson", "larson, 2 threads", ["--rounds", "20"]), ("bulk", "bulk, 2 threads", ["--rounds", "20"]),
           ("slots", "slots, 1 thread", []), ("strings", "strings, 1 thread", ["--iters", "500000"]))
LINEAGE_THREADS = ("1", "2", "4", "8", "16")
LINEAGE_OPERATIONS = 200_000


def workload_cells(quick):
    """Counts of a quick run are a third of the defaults where those take longest."""
    def short(*arguments):
        return arguments if quick else ()

    def cell(name, threads, title, *arguments):
        return Cell(f"{name}-{threads}" + "".join(word for word in arguments if word == "--touch"), title,
                    "--workload", name, "--threads", str(threads), *arguments)
    return [
        cell("slots", 1, "slots"), cell("slots", 4, "slots, 4 threads"), cell("slots", 1, "slots, written", "--touch"),
        cell("slots", 4, "slots, written, 4 threads", "--touch"),
        cell("sequential", 1, "sequential"), cell("strided", 1, "strided"),
        cell("pair", 1, "pair", *short("--iters", "5M")), cell("bulk", 2, "bulk, 2 threads", *short("--rounds", "15")),
        cell("bulk", 16, "bulk, 16 threads", "--rounds", "4" if quick else "15"),
        cell("bucket", 2, "bucket, 2 threads"), cell("larson", 2, "larson, 2 threads"),
        cell("larson", 8, "larson, 8 threads", *short("--rounds", "15")),
        cell("lifetimes", 4, "lifetimes, 4 threads", *short("--iters", "400000")),
        cell("producer", 2, "producer, 2 threads", *short("--iters", "700000")),
        cell("false-active", 2, "false-active, 2 threads"), cell("false-passive", 2, "false-passive, 2 threads"),
        cell("strings", 1, "strings", *short("--iters", "700000")),
        cell("vectors", 1, "vectors", *short("--iters", "5000")), cell("calloc", 1, "calloc", *short("--iters", "200000")),
        cell("aligned", 1, "aligned", *short("--iters", "400000")),
        cell("large", 1, "large", *short("--iters", "1500")), cell("phase", 1, "phase", *short("--live", "24M")),
        cell("waste", 1, "waste", *short("--live", "24M", "--iters", "200000")),
        cell("start", 1, "start", *short("--iters", "100")),
    ]


def kept_cells(quick):
    return [Cell("idle-1000", "idle, 1,000 threads: kept", "--workload", "idle"),
            Cell("release-4", "release, 4 threads: kept", "--workload", "release", *(["--sleep", "2"] if quick else []))]


def thread_cells(quick):
    counts, fleet = ((("1", "4", "16"), ("10", "100", "1000")) if quick else
                     (("1", "2", "4", "8", "16", "32"), ("1", "10", "30", "100", "300", "1000")))
    cells = [Cell(f"{name}-{count}", f"{name}, {count} threads", "--workload", name, "--threads", count, "--touch",
                  "--duration", "0.2") for name in LINES for count in counts]
    return cells + [Cell(f"idle-{count}", f"idle, {count} threads", "--workload", "idle", "--threads", count, "--sleep",
                         "1") for count in fleet]


def trace_cells(quick):
    return [Replay(f"trace-{path.stem}", f"trace: {path.stem}", "--times", "20" if quick else "100",
                   str(path.relative_to(benchlib.ROOT))) for path in sorted(TRACES.glob("*.rnt"))]


def latency_cells():
    return [Cell(name, title, "--workload", name, "--latency", *arguments) for name, title, arguments in LATENCY]


def lineage_arguments(name, count, operations):
    """The same work in all, however many threads share it: a slow design must come to the same peak as a fast one.
    Small enough that the design which maps every block stays below the kernel's limit of 65,530 mappings."""
    each = operations // count
    return {
        "slots": ["--slots", "1500", "--sizes", "16,64,256", "--touch", "--iters", str(each)],
        "bulk": ["--objects", "1500", "--rounds", str(max(2, each // 2700))],
        "larson": ["--rounds", "4", "--iters", str(each // 8)],
        "phase": ["--live", "24M", "--sizes", "200"],
    }[name]


def lineage_cells(quick):
    operations = LINEAGE_OPERATIONS // 2 if quick else LINEAGE_OPERATIONS
    return [Cell(f"{name}-{count}", f"{name}, {count} thread{'s' * (count != '1')}", "--workload", name, "--threads",
                 count, *lineage_arguments(name, int(count), operations))
            for name in ("slots", "bulk", "larson", "phase")
            for count in (("1", "4", "16") if quick else LINEAGE_THREADS)]


def lineage_designs():
    """In the order of their history, with their options one by one; then glibc and rnAlloc. Without libraries yet."""
    settings = {
        "freelist": "", **{f"freelist:{name}": f"structure={name}" for name in ("tree", "bitmap", "stack")},
        "lockfree": "", "threadcache": "", "arenas": "", "buddy": "", "pagemap-hash": "",
        **{f"pagemap-hash:{name}": f"{name}=on" for name in ("freelist", "chunks", "batch")},
        "pagemap-hash:all": "freelist=on,chunks=on,batch=on",
    }
    designs = [Allocator(title, title, None, None) for title in settings]
    for design in designs:
        if settings[design.name]:
            design.variables["LINEAGE_OPTIONS"] = settings[design.name]
    return [*designs, benchlib.specified(benchlib.BASE), benchlib.specified(benchlib.OURS)]


def lineage_allocators(options):
    designs = lineage_designs()
    for design in designs[:-2]:
        file = f"{design.name.partition(':')[0]}.so"
        design.library = pathlib.Path(options.rnbench).resolve().parent / "lineage" / file
        if not design.library.exists():
            raise Failure(f"no {design.library} (run make lineage)")
    designs[-1].library = pathlib.Path(options.library).resolve()
    return designs


class Context:
    """What a part is measured with: the command line, the form, the allocators, and until when to begin new rounds."""

    def __init__(self, options, quick, until):
        self.options, self.quick, self.until = options, quick, until

    def allocators(self):
        return benchlib.find_allocators(self.options)

    def runs(self, allocators, cells, rounds, **keywords):
        return Runs(allocators, cells).measure(self.options.rnbench, rounds, self.until, **keywords)

    def rounds(self, quick, full):
        return min(self.options.rounds, quick if self.quick else full)


def with_facts(context, runs, **more):
    facts = benchlib.machine(runs.allocators, context.options.rnbench)
    return {"machine": facts, "rounds": runs.rounds(), **more, "runs": runs.raw()}


def workloads(context):
    """Also the bytes live at the peak by cell, as the workload asks for them: a checked run under libc's malloc. Where
    threads race it is about the same for every allocator, else exactly."""
    cells, glibc, live = workload_cells(context.quick), benchlib.specified(benchlib.BASE), {}
    for cell in cells:
        if "start" not in cell.arguments:
            report = benchlib.run_rnbench(context.options.rnbench, glibc, [*cell.arguments, "--check"])
            live[cell.key] = report["peak_live_bytes"]
    runs = context.runs(context.allocators(), cells, context.rounds(3, 15))
    return with_facts(context, runs, peak_live_bytes=live)


def kept(context):
    return with_facts(context, context.runs(context.allocators(), kept_cells(context.quick), context.rounds(1, 3)))


def threads(context):
    return with_facts(context, context.runs(context.allocators(), thread_cells(context.quick), context.rounds(1, 5)))


def latency(context):
    return with_facts(context, context.runs(context.allocators(), latency_cells(), context.rounds(1, 5)))


def counters(context):
    """Short counts do: they are per operation, and other programs on the machine hardly change them."""
    cells = [Cell(cell.key, cell.title, *cell.arguments, "--counters") for cell in workload_cells(True)]
    return with_facts(context, context.runs(context.allocators(), cells, 1))


def traces(context):
    return with_facts(context, context.runs(context.allocators(), trace_cells(context.quick), context.rounds(3, 15)))


def lineage(context):
    """A design may fail at a workload: that is a result."""
    runs = context.runs(lineage_allocators(context.options), lineage_cells(context.quick), context.rounds(1, 5),
                        may_fail=True)
    for entries in runs.runs.values():
        for index, run in enumerate(entries):
            if "failed" not in run:
                entries[index] = {name: run[name] for name in (TIME, MEMORY, "ops_per_second")}
    return with_facts(context, runs)


def profile(context, arguments):
    common = [arguments[0], "--rnbench", str(context.options.rnbench), "--library", str(context.options.library)]
    done = subprocess.run([str(SCRIPTS / "profile"), *common, *arguments[1:]], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(benchlib.last_line(done.stderr))
    return done.stdout.splitlines()


def instructions(context):
    """Lines of scripts/profile --callgrind: the stand-in where the machine counts nothing."""
    allocators = context.allocators()
    words = [word for allocator in allocators for word in ("--allocator", allocator.name)]
    lines = [line for workload, arguments in (("slots", ["--slots", "5000"]), ("pair", []))
             for line in profile(context, [workload, "--callgrind", *words, "--", *arguments])
             if workload == "slots" or not context.quick]
    return {"machine": benchlib.machine(allocators, context.options.rnbench), "rounds": 1, "lines": lines}


def flames(context):
    for name in ("bulk", "larson"):
        profile(context, [name, "--out", str(pathlib.Path(context.options.out, f"flame-{name}.svg")), "--",
                          "--duration", "1" if context.quick else "2"])
    facts = benchlib.machine([benchlib.find_allocators(context.options)[-1]], context.options.rnbench)
    return {"machine": facts, "rounds": 1}


def other(name, *arguments):
    """Another script of ours, which writes its own files; in the time there is."""
    def run(context):
        options = context.options
        common = ["--out", str(options.out), "--rnbench", str(options.rnbench), "--library", str(options.library),
                  *(["--skip-missing"] if options.skip_missing else []),
                  *[word for text in options.allocator or () for word in ("--allocator", text)],
                  *(["--only", options.only] if options.only else [])]
        process = subprocess.Popen([str(SCRIPTS / name), *common, *arguments[0 if context.quick else 1]])
        try:
            status = process.wait(timeout=4 * max(60, context.until - time.monotonic()))
        except BaseException:  # a signal to us, or its time is up: it must not go on alone
            process.terminate()
            process.wait()
            raise
        if status != 0:
            raise Failure(f"scripts/{name} ended with status {status}")
    return run


def need_programs(options):
    done = subprocess.run([str(SCRIPTS / "programs"), "--need", "--rnbench", str(options.rnbench), "--library",
                           str(options.library), "--skip-missing"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(benchlib.last_line(done.stderr))


class Part:
    """`quick` and `full` are seconds that it may take; `measure` gives what its JSON file holds (None: it wrote its
    own)."""

    def __init__(self, name, what, quick, full, measure, need=lambda options: None):
        self.name, self.what, self.quick, self.full, self.measure = name, what, quick, full, measure
        self.need = need  # fails now, not in half an hour

    def seconds(self, quick):
        return self.quick if quick else self.full


PARTS = [
    Part("workloads", "every workload under every allocator: time, memory, live bytes", 75, 500, workloads),
    Part("kept", "memory kept by idle threads, and after everything was freed", 45, 260, kept),
    Part("threads", "throughput and memory kept by number of threads", 25, 120, threads),
    Part("latency", "the time of every call: tails", 12, 80, latency),
    Part("counters", "instructions, cycles, misses, where the machine counts them", 15, 40, counters),
    Part("traces", "recorded programs replayed: time, memory, utilization", 12, 60, traces),
    Part("lineage", "the designs that led here, 1 to 16 threads", 30, 330, lineage, lineage_allocators),
    Part("programs", "whole programs: time and peak memory", 30, 280,
         other("programs", ["--rounds", "1", "--program", "perl,jq,sqlite3,gs,xmllint,git"], ["--rounds", "7"]), need_programs),
    Part("figures", "what the design set out to reach",
         15, 260, other("figures", ["--rounds", "1", "--figures", "pair,true,grep"], ["--rounds", "2"])),
    Part("compare", "random slots by hyperfine",
         20, 140, other("compare", ["--rounds", "1", "--threads", "1"], ["--rounds", "3"]),
         lambda options: benchlib.need_program("hyperfine")),
    Part("instructions", "instructions per operation by callgrind, exact", 20, 40, instructions,
         lambda options: benchlib.need_program("valgrind")),
    Part("flames", "flame graphs of two workloads under rnAlloc", 0, 25, flames,
         lambda options: benchlib.need_program("perf")),
]
