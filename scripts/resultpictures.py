"""The pictures of scripts/results."""
import svgchart
from benchruns import MEMORY, TIME

QUANTILES = ["p50", "p99", "p99_9", "p99_99", "max"]


def pictures(results):
    out = {}
    if results.runs.get("workloads"):
        out["workloads.svg"] = workloads(results)
    if results.runs.get("threads"):
        out["threads.svg"], out["idle.svg"] = threads(results), idle(results)
    if results.runs.get("latency"):
        out["latency.svg"] = latency(results)
    if results.runs.get("lineage"):
        out["lineage.svg"] = lineage(results)
    return out


def date(results, part):
    facts = results.raw[part]["machine"]
    return f"{facts['date']}, {facts['CPU']}, {facts['kernel']}"


def workloads(results):
    every = [results.runs[name] for name in ("workloads", "kept") if results.runs.get(name)]
    titles = [a.title for a in every[0].allocators]
    panels = []
    for what, heading in ((TIME, "time"), (MEMORY, "memory")):
        rows = []
        for runs in every:
            for cell in runs.cells:
                medians = {a.title: runs.median(cell, a, what) for a in runs.allocators}
                best = max(min(medians.values()), 1e-9)
                told = cell.tells(what)
                rows.append((cell.title, {title: value / best for title, value in medians.items()} if told else {}))
        panels.append((f"{heading}, as a multiple of the best (1)", rows))
    return svgchart.bars(f"RnBench: less is better ({date(results, 'workloads')})", titles, panels)


def counts_of(runs, name):
    return [cell.key.rpartition("-")[2] for cell in runs.cells if cell.key.rpartition("-")[0] == name]


def series(runs, name, value, allocators=None):
    cells = {cell.key: cell for cell in runs.cells}
    return {a.title: [None if runs.failure(cells[f"{name}-{count}"], a) else value(cells[f"{name}-{count}"], a)
                      for count in counts_of(runs, name)] for a in allocators or runs.allocators}


def million_per_second(runs):
    return lambda cell, allocator: runs.median(cell, allocator, "ops_per_second") / 1e6


def threads(results):
    runs = results.runs["threads"]
    charts = [(f"{name}: million operations per second by number of threads", counts_of(runs, name), False,
               series(runs, name, million_per_second(runs))) for name in ("slots", "larson")]
    return svgchart.lines(f"Threads against throughput: more is better ({date(results, 'threads')})",
                          [a.title for a in runs.allocators], charts)


def idle(results):
    runs = results.runs["threads"]
    charts = [("MiB kept by threads that freed everything and sleep, by their number", counts_of(runs, "idle"), True,
               series(runs, "idle", lambda cell, a: runs.median(cell, a, MEMORY)))]
    return svgchart.lines(f"Threads against memory kept: less is better ({date(results, 'threads')})",
                          [a.title for a in runs.allocators], charts)


def latency(results):
    runs, charts = results.runs["latency"], []
    for cell in runs.cells:
        for call in ("alloc", "free"):
            charts.append((f"{cell.title}: {call}, ns", [name.replace("_", ".") for name in QUANTILES], True, {
                a.title: [runs.median(cell, a, lambda run, c=call, n=name: run["latency"][c][n + "_ns"])
                          for name in QUANTILES] for a in runs.allocators}))
    return svgchart.lines(f"Latency tails: less is better ({date(results, 'latency')})",
                          [a.title for a in runs.allocators], charts, 2)


def lineage(results):
    """The steps of the lineage, time beside memory. pagemap-hash is shown with its cures: without, it is far off the
    scale of the others, and so are other options only in the tables."""
    runs = results.runs["lineage"]
    steps = [a for a in runs.allocators if a.name == "pagemap-hash:all" or (":" not in a.name and a.name != "pagemap-hash")]
    charts = []
    for name in dict.fromkeys(cell.key.rpartition("-")[0] for cell in runs.cells):
        charts += [(f"{name}: million operations per second", counts_of(runs, name), True,
                    series(runs, name, million_per_second(runs), steps)),
                   (f"{name}: peak memory in MiB", counts_of(runs, name), True,
                    series(runs, name, lambda cell, a: runs.median(cell, a, MEMORY), steps))]
    return svgchart.lines(f"The lineage by number of threads ({date(results, 'lineage')})", [a.title for a in steps],
                          charts, 2)
