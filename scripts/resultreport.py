"""REPORT.md, README's numbers, the tables and the pictures of scripts/results, from the JSON of its parts alone."""
import re

import benchlib
import lineagereport
import resultdata
import resultpictures
from benchlib import Failure, say, table
from benchruns import MEMORY, MIB, TIME
from resultdata import GOAL_ROW, GROUPS, KEPT, LOSS, losses, means, wins

GOALS = {TIME: 1.05, MEMORY: 1.15}
QUANTILES = {"p50": "p50", "p99": "p99", "p99_9": "p99.9", "p99_99": "p99.99", "max": "max"}
BEGIN, END = "<!-- results: written by scripts/results -->", "<!-- results: end -->"
WRITTEN = "Written by `make results` from the JSON beside it; do not edit."


def files(results):
    """Texts by name of file, of all for which there are measurements."""
    out = {"REPORT.md": report(results)}
    if results.raw["workloads"]:
        out["workloads.md"] = workload_tables(results)
    if results.raw["latency"]:
        out["latency.md"] = latency_document(results)
    if results.raw["traces"]:
        out["traces.md"] = trace_document(results)
    if results.raw["lineage"]:
        out["lineage.md"] = lineagereport.chapter(results)
    return {**out, **resultpictures.pictures(results)}


# REPORT.md

def row_lines(rows):
    head = ["row", "what", "rnAlloc / best peer", "rnAlloc", "its spread", "best peer", "who"]
    return table(head, [[f"`{row.key}`", row.title, f"{row.ratio:.2f}", f"{number(row.ours['median'])} {row.unit}",
                         f"{number(row.ours['min'])}..{number(row.ours['max'])}", number(row.best), row.peer]
                        for row in rows]) if rows else "None."


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def causes(lost, notes):
    lines = [f"- `{row.key}` ({row.ratio:.2f}): {notes[row.key]}" for row in lost if notes.get(row.key)]
    silent = [f"`{row.key}`" for row in lost if not notes.get(row.key)]
    if silent:
        lines.append(f"- No cause written down yet: {', '.join(silent)}")
    return lines


def stale_notes(lost, notes):
    return sorted(set(notes) - {row.key for row in lost})


def mean_rows(results):
    """A line for each group of rows and measure, and for all that have a time or a peak."""
    lines, every = [], []
    for group, title in GROUPS.items():
        rows = results.rows(group)
        every += rows if group != KEPT else []
        lines += [mean_line(title, rows, what) for what in (TIME, MEMORY)]
    lines += [mean_line("all but memory kept", every, what) for what in (TIME, MEMORY)]
    return [line for line in lines if line]


def mean_line(title, rows, what):
    found = means(rows, what)
    if not found:
        return None
    mean, count, worst, above = found
    return [f"{title}: {what}", count, f"{mean:.3f}", f"{worst.ratio:.2f} (`{worst.key}`)", above]


def goals(results):
    """On RnBench's workloads."""
    lines = []
    for what, goal in GOALS.items():
        found = means(results.rows("workloads"), what)
        if found:
            mean, _count, _worst, above = found
            lines.append(f"- {what}: {mean:.3f}, goal {goal:.2f}: {'met' if mean <= goal else 'not met'}; rows above "
                         f"{GOAL_ROW:.2f}: {above}, goal 0: {'met' if above == 0 else 'not met'}")
    return lines


def stamps(results, bullet):
    """A line for each group of rows; what is the same as in the first is not said again."""
    groups = [group for group in GROUPS if results.rows(group)]
    return [f"{bullet}{GROUPS[group][0].upper()}{GROUPS[group][1:]}: "
            f"{results.stamp(group, groups[0] if group != groups[0] else None)}" for group in groups]


def quietness(runs):
    """How much the machine was disturbed by others while it was measured."""
    single = [run for (key, _name), values in runs.runs.items() for run in values
              if key.endswith("-1") and not key.startswith("start") and "user_ns" in run]
    total = sum(run["total_ns"] for run in single)
    share = sum(run["user_ns"] + run["system_ns"] for run in single) / total if total else 1
    return (f"Runs with one thread had a CPU for {share:.0%} of their time; on a machine that does nothing else it is "
            "nearly all.")


def report(results):
    rows = results.all_rows()
    lost, won, notes = losses(rows), wins(rows), results.notes
    for key in stale_notes(lost, notes) if rows else []:
        say(f"a note for \"{key}\", which is no loss (any more)")
    lines = ["# RnBench: rnAlloc and its peers", "", f"{WRITTEN} Medians; ratios below 1: rnAlloc needs less. Memory "
             "is the peak that was resident, less the benchmark's own tables; in `kept` rows what is left when all "
             "is freed, for `start` the child's, for traces what the replay added; it is not compared where a workload "
             "never writes to its blocks.", ""]
    if not rows:
        return "\n".join([*lines, "Nothing is measured yet, or rnAlloc or every peer was left out.", ""])
    lines += stamps(results, "- ")
    if results.runs.get("workloads"):
        lines += ["", quietness(results.runs["workloads"])]
    lines += ["", f"## Where rnAlloc loses: {len(lost)} of {len(rows)} rows", "",
              f"Every ratio above {LOSS:.2f}, the worst first.", "", row_lines(lost), ""]
    if lost:
        lines += ["Causes, and what was tried:", "", *causes(lost, notes), ""]
    lines += [f"## Where rnAlloc wins: {len(won)} of {len(rows)} rows", "",
              f"Every ratio below {1 / LOSS:.2f}, the clearest first.", "", row_lines(won), "",
              "## Means", "", "Geometric means of rnAlloc over the best peer of each row, which is another peer in each.",
              "", table(["rows", "number", "mean", "worst", f"above {GOAL_ROW:.2f}"], mean_rows(results)), ""]
    if goals(results):
        lines += ["Goals, on RnBench's workloads:", "", *goals(results), ""]
    lines += tails(results)
    lines += standings(results)
    lines += faults(results)
    lines += instructions(results)
    return "\n".join([*lines, "## More", "", *links(results), ""])


def standings(results):
    """Each allocator against the best of the row, ours included: nobody is best everywhere."""
    runs = results.runs.get("workloads")
    if not runs:
        return []
    measures = [(what, runs, what, [cell for cell in runs.cells if cell.tells(what)]) for what in (TIME, MEMORY)]
    counted = results.runs.get("counters")
    cells = [cell for cell in counted.cells if all("cycles" in run["counters"] for a in counted.allocators
                                                   for run in counted.runs[cell.key, a.name])] if counted else []
    if cells:
        measures.append(("cycles in user mode", counted, lambda run: run["counters"]["cycles"] / max(1, run["ops"]),
                         cells))
    rows = [row for measure in measures for row in standing_rows(*measure)]
    return ["## Every allocator against the best of each row", "", results.stamp("workloads", "workloads"), "",
            table(["", *(a.title for a in runs.allocators)], rows), ""]


def standing_rows(name, runs, what, cells):
    ratios = {a.name: [] for a in runs.allocators}
    for cell in cells:
        medians = {a.name: runs.median(cell, a, what) for a in runs.allocators}
        best = min(medians.values())
        for allocator, median in medians.items() if best > 0 else ():
            ratios[allocator].append(median / best)
    if not all(ratios.values()):
        return []
    return [[f"{name}: mean", *(f"{benchlib.geometric_mean(r):.2f}" for r in ratios.values())],
            [f"{name}: worst row", *(f"{max(r):.2f}" for r in ratios.values())]]


def tails(results):
    """Quantiles of ours over the best peer's, by workload and call."""
    runs = results.runs.get("latency")
    peers = [a for a in runs.allocators if a.name != benchlib.OURS] if runs else []
    ours = [a for a in runs.allocators if a.name == benchlib.OURS] if runs else []
    if not peers or not ours:
        return []
    rows = []
    for cell in runs.cells:
        for call in ("alloc", "free"):
            ratios = []
            for quantile in QUANTILES:
                medians = {a.name: quantile_of(runs, cell, a, call, quantile) for a in runs.allocators}
                ratios.append(medians[benchlib.OURS] / max(1, min(medians[peer.name] for peer in peers)))
            rows.append([f"{cell.title}: {call}", *(f"{ratio:.2f}" for ratio in ratios)])
    return ["## Latency of single calls: rnAlloc over the best peer", "", results.stamp("latency", "workloads"), "",
            "The clock's own cost is in them, and its steps are coarse against p50.", "",
            table(["", *QUANTILES.values()], rows), ""]


def quantile_of(runs, cell, allocator, call, quantile):
    return runs.median(cell, allocator, lambda run: run["latency"][call][quantile + "_ns"])


def faults(results):
    """What runs counted that no allocator should give."""
    runs = results.runs.get("workloads")
    lines = []
    for cell in runs.cells if runs else []:
        for allocator in runs.allocators:
            count = runs.runs[cell.key, allocator.name][-1].get("results", {}).get("misaligned_blocks", 0)
            if count:
                lines.append(f"- {allocator.title}, {cell.title}: {count:,.0f} blocks not aligned as asked for")
    return ["## Faults found", "", *lines, ""] if lines else []


def instructions(results):
    raw = results.raw["instructions"]
    if not raw:
        return []
    return ["## Instructions, exact, by callgrind", "", results.stamp("instructions", "workloads"), "",
            *(f"- {line}" for line in raw["lines"]), ""]


def links(results):
    known = {"workloads.md": "every workload: medians, spreads, ratios, overhead, counters",
             "lineage.md": "the designs that led here", "traces.md": "recorded programs, replayed",
             "programs.md": "whole programs", "latency.md": "latency of every call",
             "figures.md": "what the design set out to reach",
             "compare.md": "random slots from 1 to 32 threads, by hyperfine",
             "real-programs.md": "programs of Debian: the same output as under glibc",
             "workloads.svg": "time and memory of every workload", "threads.svg": "threads against throughput",
             "idle.svg": "threads against memory kept", "latency.svg": "latency tails", "lineage.svg": "the lineage",
             "flame-bulk.svg": "flame graph of bulk", "flame-larson.svg": "flame graph of larson"}
    made = {*(name for name in ("workloads.md", "workloads.svg") if results.raw["workloads"]),
            *(name for name in ("latency.md", "latency.svg") if results.raw["latency"]),
            *(name for name in ("lineage.md", "lineage.svg") if results.raw["lineage"]),
            *(name for name in ("threads.svg", "idle.svg") if results.raw["threads"]),
            *(["traces.md"] if results.raw["traces"] else [])}
    return [f"- [{name}]({name}): {what}" for name, what in known.items()
            if name in made or (results.folder / name).exists()]


# README.md

def with_numbers(readme, results):
    """README's text with the block between the marks written anew. Fails where the marks are gone."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise Failure(f"README.md: the marks of the numbers are not there once each: {BEGIN} and {END}")
    return re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _match: numbers_block(results), readme, flags=re.S)


def numbers_block(results):
    rows = results.all_rows()
    if not rows:
        return "\n".join([BEGIN, "Not measured yet: `make results`.", END])
    lost, won = losses(rows), wins(rows)
    lines = [BEGIN, f"Of {len(rows)} rows rnAlloc loses {len(lost)} to the best peer of the row by more than "
             f"{LOSS - 1:.0%}, and wins {len(won)} by as much.", ""]
    if lost:
        lines += ["The worst losses: " + "; ".join(f"{row.title}, {row.what} {row.ratio:.2f}" for row in lost[:3])
                  + ".", ""]
    lines += [table(["geometric mean of rnAlloc over the best peer of each row", "rows", "mean", "worst",
                     f"above {GOAL_ROW:.2f}"], mean_rows(results)), ""]
    return "\n".join([*lines, *stamps(results, "- "), "", END])


# workloads.md, latency.md, traces.md

def head(results, part, title, words):
    return [f"# {title}", "", f"{WRITTEN} {results.raw[part]['rounds']} interleaved rounds. {words}", "",
            benchlib.machine_table(results.raw[part]["machine"]), ""]


def workload_tables(results):
    runs = results.runs["workloads"]
    base = runs.allocators[0]
    quick = "**A quick run: small counts, few rounds; not the figures to quote.** " if resultdata.is_quick(
        results.raw["workloads"]) else ""
    lines = head(results, "workloads", "RnBench: every workload under every allocator", f"{quick}Cells: median "
                 f"(smallest..largest), ratio to {base.title}; the best of a row is bold. {quietness(runs)}")
    lines += ["## Time, ns per operation", "", runs.table(TIME, base), "", "## Memory, MiB", "",
              "Where a workload never writes to its blocks, memory is not compared: "
              + ", ".join(cell.title for cell in runs.cells if not cell.written) + ".", "",
              runs.table(MEMORY, base), ""]
    if results.runs.get("kept"):
        kept = results.runs["kept"]
        lines += ["## Memory kept, MiB", "", results.stamp("kept"), "", kept.table(MEMORY, kept.allocators[0]), ""]
    lines += ["## Overhead: (peak resident - resident before) / live bytes at the peak", "",
              "Live bytes are what the program asked for, from a run with `--check`. Below 1 where blocks are not "
              "written whole; large where there is little live memory.", "", overhead_table(results), "",
              "## Page faults, user and system time, context switches (medians)", "", "Of all threads, those of an "
              "allocator too: work that it leaves to a thread of its own is in here, if not in the time above.", "",
              kernel_table(runs), ""]
    if results.runs.get("counters"):
        lines += ["## Counters, user mode, per operation", "", results.stamp("counters"), "",
                  counter_table(results.runs["counters"]), ""]
    return "\n".join(lines)


def overhead_table(results):
    runs, live_bytes = results.runs["workloads"], results.raw["workloads"].get("peak_live_bytes", {})
    rows = []
    for cell in runs.cells:
        live = live_bytes.get(cell.key)
        if live and live >= MIB:
            rows.append([cell.title, f"{live / MIB:,.1f}", *(
                f"{runs.median(cell, a, lambda run: run['peak_rss_bytes'] - run['rss_before_bytes']) / live:.2f}"
                for a in runs.allocators)])
    return table(["", "live MiB", *(a.title for a in runs.allocators)], rows)


def kernel_table(runs):
    def text(cell, allocator):
        faults_seen = runs.median(cell, allocator, "minor_faults")
        user, system = (runs.median(cell, allocator, name) / 1e6 for name in ("user_ns", "system_ns"))
        switches = runs.median(cell, allocator, lambda run: run["voluntary_switches"] + run["involuntary_switches"])
        return f"{faults_seen:,.0f}, {user:,.0f} + {system:,.0f} ms, {switches:,.0f}"
    rows = [[cell.title, *(text(cell, allocator) for allocator in runs.allocators)] for cell in runs.cells]
    return table(["", *(a.title for a in runs.allocators)], rows)


def counter_table(runs):
    rows, reasons = [], set()
    for cell in runs.cells:
        for name in ("instructions", "cycles", "cache_misses", "dtlb_misses"):
            values = []
            for allocator in runs.allocators:
                run = runs.runs[cell.key, allocator.name][-1]
                reasons.add(run["counters"]["not_counted"])
                value = run["counters"].get(name)
                values.append(None if value is None else f"{value / max(1, run['ops']):,.3f}")
            if any(values):
                rows.append([f"{cell.title}: {name.replace('_', ' ')}", *(value or "-" for value in values)])
    said = [f"Not counted on this machine: {reason}. REPORT.md has callgrind's exact instruction counts instead."
            for reason in sorted(reasons - {""})]
    tables = [table(["", *(a.title for a in runs.allocators)], rows), ""] if rows else []
    return "\n".join([*tables, *said])


def latency_document(results):
    runs = results.runs["latency"]
    rows = []
    for cell in runs.cells:
        for call in ("alloc", "free"):
            columns = {name: {a.name: quantile_of(runs, cell, a, call, name) for a in runs.allocators}
                       for name in QUANTILES}
            for allocator in runs.allocators:
                clock = runs.median(cell, allocator, lambda run: run["latency"]["clock_cost_ns"])
                rows.append([cell.title, allocator.title, call, *(
                    f"**{values[allocator.name]:,.0f}**" if values[allocator.name] == min(values.values())
                    else f"{values[allocator.name]:,.0f}" for values in columns.values()), f"{clock:.0f}"])
    lines = head(results, "latency", "Latency of every call", "In ns, medians over the rounds of each run's "
                 "quantile; the best is bold. `clock` is what the timing itself costs, and is included. The longest "
                 "calls hold what the kernel and other programs did meanwhile.")
    return "\n".join([*lines, table(["workload", "allocator", "call", *QUANTILES.values(), "clock"], rows), "",
                      "![latency](latency.svg)", ""])


def trace_document(results):
    runs = results.runs["traces"]
    base = runs.allocators[0]
    lines = head(results, "traces", "Recorded programs, replayed", "Each trace of rnbench/traces is played many times "
                 "in one process, with its threads as they were; time is of one playing, memory what the replay added "
                 f"to the process at its peak. Cells: median (smallest..largest), ratio to {base.title}; the best of a "
                 "row is bold.")
    rows = [[cell.title, *(f"{runs.median(cell, a, 'utilization'):.3f}" for a in runs.allocators)]
            for cell in runs.cells]
    return "\n".join([*lines, "## Time, ns per event", "", runs.table(TIME, base), "", "## Peak memory, MiB", "",
                      runs.table(MEMORY, base, 2), "", "## Utilization: peak live bytes / peak memory", "",
                      "Above 1 where blocks were not written whole.", "",
                      table(["", *(a.title for a in runs.allocators)], rows), ""])
