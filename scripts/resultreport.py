"""REPORT.md, workloads.md and the pictures of scripts/results, from the runs alone."""
import json

import benchlib
import svgchart
from benchlib import geometric_mean, table
from benchruns import MEMORY, MIB, TIME

GOALS = {TIME: 1.05, MEMORY: 1.15}
GOAL_ROW = 1.20
UNITS = {TIME: "ns per operation", MEMORY: "MiB"}
NOISE = 0.02  # a ratio this near to 1 is a draw
QUANTILES = {"p50": "p50", "p99": "p99", "p99_9": "p99.9", "p99_99": "p99.99", "max": "max"}


class Row:
    """One workload and one measure: ours against the best peer."""

    def __init__(self, runs, cell, what):
        self.cell, self.what = cell, what
        self.ratio = runs.ratio(cell, what)
        self.best, self.peer = runs.best_peer(cell, what)
        ours = next(allocator for allocator in runs.allocators if allocator.name == benchlib.OURS)
        self.ours = runs.summary(cell, ours, what)

    def line(self):
        ours = self.ours
        return [self.cell.title, self.what, f"{self.ratio:.2f}", f"{ours['median']:,.1f} {UNITS[self.what]}",
                f"{ours['min']:,.1f}..{ours['max']:,.1f}", f"{self.best:,.1f}", self.peer.title]


def rows_of(all_runs, what):
    return [Row(runs, cell, what) for runs in all_runs for cell in runs.cells
            if (what == MEMORY or cell.timed) and runs.ratio(cell, what) is not None]


def standing(all_runs, what, allocators):
    """Geometric mean over the rows of each allocator's median over the smallest of the row, ours included."""
    means = []
    for allocator in allocators:
        ratios = []
        for runs in all_runs:
            for cell in runs.cells:
                if what == MEMORY or cell.timed:
                    best = min(runs.median(cell, other, what) for other in allocators)
                    ratios.append(max(runs.median(cell, allocator, what), 1e-9) / max(best, 1e-9))
        means.append((geometric_mean(ratios), max(ratios)))
    return means


class Report:
    def __init__(self, facts, data, live, session, profile):
        self.facts, self.data, self.live, self.session, self.profile = facts, data, live, session, profile
        self.allocators = data["workloads"].allocators
        self.main = [data["workloads"], data["slow"]]
        self.base = self.allocators[0]
        self.titles = [allocator.title for allocator in self.allocators]
        self.has_ours = any(allocator.name == benchlib.OURS for allocator in self.allocators)
        self.rows = [row for what in (TIME, MEMORY) for row in rows_of(self.main, what)] if self.has_ours else []

    def files(self):
        raw = {"machine": self.facts, "quick": self.session.plan.quick, "left_out": self.session.left_out,
               "peak_live_bytes": self.live, "stages": {name: runs.raw() for name, runs in self.data.items()}}
        return {
            "workloads.json": json.dumps(raw, indent=1) + "\n",
            "workloads.md": self.tables(),
            "workloads.svg": self.picture_workloads(),
            "threads.svg": self.picture_threads(),
            "idle.svg": self.picture_idle(),
            "latency.svg": self.picture_latency(),
            "REPORT.md": self.report(),
        }

    # REPORT.md

    def head(self, title):
        rounds = self.data["workloads"].rounds()
        quick = "**A quick run: small counts, few rounds; not the figures to quote.** "
        form = quick if self.session.plan.quick else ""
        return [f"# {title}", "", f"Written by `make results`; do not edit. {form}{rounds} interleaved rounds "
                f"({self.data['slow'].rounds()} for what sleeps); medians. Memory is the peak that was resident, "
                "of the whole process; for `idle` and `release` what is kept at the end, for `start` the child's.", "",
                self.quietness(), "", benchlib.machine_table(self.facts), ""]

    def quietness(self):
        """How much the machine was disturbed by others while it was measured."""
        runs = [run for (key, _name), values in self.data["workloads"].runs.items() for run in values
                if key.endswith("-1") and not key.startswith("start")]
        share = sum(run["user_ns"] + run["system_ns"] for run in runs) / sum(run["total_ns"] for run in runs)
        return (f"Runs with one thread had a CPU for {share:.0%} of their time; on a machine that does nothing else it "
                "is nearly all.")

    @staticmethod
    def ratio_table(rows):
        head = ["workload", "measure", "rnAlloc / best peer", "rnAlloc", "its spread", "best peer", "who"]
        return table(head, [row.line() for row in rows]) if rows else "None."

    def goals(self):
        """Over the workloads of which time and peak are told; what is kept afterwards has goals of its own."""
        lines, kept = [], {cell.key for cell in self.data["slow"].cells}
        for what, goal in GOALS.items():
            rows = [row for row in self.rows if row.what == what and row.cell.key not in kept]
            ratios = [row.ratio for row in rows]
            mean = geometric_mean(ratios)
            worst = max(rows, key=lambda row: row.ratio)
            above = sum(ratio > GOAL_ROW for ratio in ratios)
            lines.append(f"- {what}: geometric mean over {len(ratios)} rows against the best peer of each {mean:.3f} "
                         f"(goal {goal}: {'met' if mean <= goal else 'not met'}); worst row {worst.ratio:.2f} "
                         f"({worst.cell.title}); rows above {GOAL_ROW}: {above} (goal 0)")
        return lines

    def standings(self):
        head = ["", *self.titles]
        rows = []
        for what in (TIME, MEMORY):
            means = standing(self.main[:1], what, self.allocators)
            rows.append([f"{what}: geometric mean to the best of each row", *(f"{mean:.2f}" for mean, _ in means)])
            rows.append([f"{what}: worst row", *(f"{worst:.2f}" for _, worst in means)])
        return table(head, rows)

    def report(self):
        lines = self.head("RnBench: rnAlloc and its peers")
        if self.rows:
            by_ratio = sorted(self.rows, key=lambda row: -row.ratio)
            losses = [row for row in by_ratio if row.ratio > 1 + NOISE]
            wins = [row for row in reversed(by_ratio) if row.ratio < 1 - NOISE]
            lines += ["## Where rnAlloc loses", "", f"{len(losses)} of {len(self.rows)} rows, the worst first. "
                      f"A ratio within {NOISE:.0%} of 1 is a draw.", "", self.ratio_table(losses), "",
                      "## Where rnAlloc wins", "", f"{len(wins)} of {len(self.rows)} rows, the clearest first.", "",
                      self.ratio_table(wins), "", "## Goals", "", *self.goals(), ""]
        else:
            lines += ["rnAlloc or every peer was left out, so nothing is compared.", ""]
        lines += ["## All allocators", "", self.standings(), "", "![time and memory](workloads.svg)", "",
                  "![threads](threads.svg)", "", "![idle](idle.svg)", "", "![latency](latency.svg)", "",
                  "## Latency of every call", "", self.latency_table(), ""]
        if self.profile:
            lines += ["## Instructions, exact, by callgrind", "", *(f"- {line}" for line in self.profile), ""]
        lines += self.faults()
        lines += ["## More", "", "- [workloads.md](workloads.md): all medians, spreads and ratios; overhead; counters",
                  "- [workloads.json](workloads.json): every run", *self.neighbours(), ""]
        if self.session.left_out:
            lines += ["Left out of this run:", "", *(f"- {what}" for what in self.session.left_out), ""]
        return "\n".join(lines)

    def faults(self):
        """What runs counted that no allocator should give."""
        runs, lines = self.data["workloads"], []
        for cell in runs.cells:
            for allocator in self.allocators:
                count = runs.runs[cell.key, allocator.name][-1]["results"].get("misaligned_blocks", 0)
                if count:
                    lines.append(f"- {allocator.title}, {cell.title}: {count:,.0f} blocks not aligned as asked for")
        return ["## Faults found", "", *lines, ""] if lines else []

    def neighbours(self):
        """What other scripts wrote beside this report."""
        known = {"figures.md": "the figures rnAlloc promises",
                 "compare.md": "random slots from 1 to 32 threads by hyperfine",
                 "programs.md": "real programs, time and memory", "real-programs.md": "real programs, same output",
                 "traces.md": "recorded traces", "flame-bulk.svg": "flame graph of bulk under rnAlloc",
                 "flame-larson.svg": "flame graph of larson under rnAlloc"}
        folder = benchlib.pathlib.Path(self.session.options.out)
        return [f"- [{name}]({name}): {what}" for name, what in known.items() if (folder / name).exists()]

    def latency_table(self):
        runs = self.data["latency"]
        rows = []
        for cell in runs.cells:
            for allocator in runs.allocators:
                latency = runs.runs[cell.key, allocator.name][-1]["latency"]
                for call in ("alloc", "free"):
                    rows.append([cell.title, allocator.title, call,
                                 *(f"{latency[call][name + '_ns']:,.0f}" for name in QUANTILES),
                                 f"{latency['clock_cost_ns']:.0f}"])
        return ("In ns; `clock` is what the timing itself costs, and is included.\n\n"
                + table(["workload", "allocator", "call", *QUANTILES.values(), "clock"], rows))

    # workloads.md

    def tables(self):
        lines = self.head("RnBench: every workload under every allocator")
        lines += [f"Cells: median (smallest..largest), ratio to {self.base.title}; the best of a row is bold."]
        for what in (TIME, MEMORY):
            lines += ["", f"## {what.capitalize()}, {UNITS[what]}", "", self.data["workloads"].table(what, self.base)]
        lines += ["", "## Memory kept, MiB", "", self.data["slow"].table(MEMORY, self.base)]
        lines += ["", "## Overhead: (peak resident - resident before) / live bytes at the peak", "",
                  "Live bytes are what the program asked for, from a run with `--check`. Below 1 where blocks are not "
                  "written whole; large where there is little live memory.", "", self.overhead_table()]
        lines += ["", "## Page faults, system time and context switches (medians)", "", self.kernel_table()]
        lines += ["", "## Counters, user mode, per operation", "", self.counter_table(), ""]
        return "\n".join(lines)

    def overhead_table(self):
        runs = self.data["workloads"]
        rows = []
        for cell in runs.cells:
            live = self.live.get(cell.key)
            if not live or live < MIB:
                continue
            rows.append([cell.title, f"{live / MIB:,.1f}", *(
                f"{runs.median(cell, a, lambda run: run['peak_rss_bytes'] - run['rss_before_bytes']) / live:.2f}"
                for a in self.allocators)])
        return table(["", "live MiB", *self.titles], rows)

    def kernel_table(self):
        runs = self.data["workloads"]

        def cell_text(cell, allocator):
            faults = runs.median(cell, allocator, "minor_faults")
            system = runs.median(cell, allocator, "system_ns") / 1e6
            switches = runs.median(cell, allocator, lambda run: run["voluntary_switches"] + run["involuntary_switches"])
            return f"{faults:,.0f}, {system:,.0f} ms, {switches:,.0f}"
        rows = [[cell.title, *(cell_text(cell, allocator) for allocator in self.allocators)] for cell in runs.cells]
        return table(["", *self.titles], rows)

    def counter_table(self):
        runs = self.data["counters"]
        rows, reasons = [], set()
        for cell in runs.cells:
            for name in ("instructions", "cycles", "cache_misses", "dtlb_misses"):
                row = [f"{cell.title}: {name.replace('_', ' ')}"]
                for allocator in runs.allocators:
                    run = runs.runs[cell.key, allocator.name][-1]
                    reasons.add(run["counters"]["not_counted"])
                    value = run["counters"].get(name)
                    row.append("not counted on this machine" if value is None else f"{value / max(1, run['ops']):,.3f}")
                rows.append(row)
        reasons.discard("")
        said = [f"\nNot counted on this machine: {reason}." for reason in reasons]
        return "\n".join([table(["", *self.titles], rows), *said])

    # pictures

    def date(self):
        return f"{self.facts['date']}, {self.facts['CPU']}, {self.facts['kernel']}"

    def picture_workloads(self):
        panels = []
        cells = [(runs, cell) for runs in self.main for cell in runs.cells]
        for what, heading in ((TIME, "time"), (MEMORY, "memory")):
            rows = []
            for runs, cell in cells:
                medians = {a.title: runs.median(cell, a, what) for a in self.allocators}
                best = max(min(medians.values()), 1e-9)
                untimed = what == TIME and not cell.timed
                rows.append((cell.title, {} if untimed else {title: value / best for title, value in medians.items()}))
            panels.append((f"{heading}, as a multiple of the best (1)", rows))
        return svgchart.bars(f"RnBench: less is better ({self.date()})", self.titles, panels)

    def series(self, name, counts, value):
        runs = self.data["lines"]
        cells = {cell.key: cell for cell in runs.cells}
        return {a.title: [value(runs, cells[f"{name}-{count}"], a) for count in counts] for a in self.allocators}

    def picture_threads(self):
        counts = self.session.plan.threads
        def throughput(runs, cell, allocator):
            return runs.median(cell, allocator, "ops_per_second") / 1e6
        charts = [(f"{name}: million operations per second by number of threads", counts, False,
                   self.series(name, counts, throughput)) for name in ("slots", "larson")]
        return svgchart.lines(f"Threads against throughput: more is better ({self.date()})", self.titles, charts)

    def picture_idle(self):
        counts = self.session.plan.fleet
        charts = [("MiB kept by threads that freed everything and sleep, by their number", counts, True, self.series(
            "idle", counts, lambda runs, cell, a: runs.median(cell, a, MEMORY)))]
        return svgchart.lines(f"Threads against memory kept: less is better ({self.date()})", self.titles, charts)

    def picture_latency(self):
        runs = self.data["latency"]
        charts = []
        for cell in runs.cells:
            for call in ("alloc", "free"):
                charts.append((f"{cell.title}: {call}, ns", list(QUANTILES.values()), True, {
                    a.title: [runs.runs[cell.key, a.name][-1]["latency"][call][name + "_ns"] for name in QUANTILES]
                    for a in self.allocators}))
        return svgchart.lines(f"Latency tails: less is better ({self.date()})", self.titles, charts)
