"""The lineage's chapter: scripts/lineage-chapter.md is the prose, with places where the measurements are filled in.

    {{time DESIGN WORKLOAD THREADS}}        ns per operation
    {{memory DESIGN WORKLOAD THREADS}}      peak in MiB
    {{times A B WORKLOAD THREADS}}          A's time over B's
    {{memories A B WORKLOAD THREADS}}       A's memory over B's
    {{best time|memory WORKLOAD THREADS}}   rnAlloc's over that of the lineage's best design there, and its name
    {{table time|memory WORKLOAD}}          every design at every number of threads
    {{designs}}                             the names, in their order

A design that failed there is told as "fails".
"""
import pathlib
import re

import benchlib
from benchlib import Failure, geometric_mean, table
from benchruns import MEMORY, TIME

TEXT = pathlib.Path(__file__).resolve().with_name("lineage-chapter.md")
FAILS = "fails"


class Filler:
    """What the places of the text stand for."""

    def __init__(self, runs):
        self.runs = runs
        self.cells = {cell.key: cell for cell in runs.cells}
        self.designs = {a.name: a for a in runs.allocators}

    def value(self, what, design, workload, threads):
        """The median, None where the design failed."""
        cell = self.cells.get(f"{workload}-{threads}")
        if design not in self.designs or not cell:
            raise Failure(f"{TEXT.name}: nothing was measured for \"{design} {workload} {threads}\"")
        if self.runs.failure(cell, self.designs[design]):
            return None
        return self.runs.median(cell, self.designs[design], what)

    def one(self, what, design, workload, threads):
        value = self.value(what, design, workload, threads)
        return FAILS if value is None else shown(value) + (" ns" if what == TIME else " MiB")

    def ratio(self, what, first, second, workload, threads):
        over, under = (self.value(what, design, workload, threads) for design in (first, second))
        return FAILS if over is None or not under else f"{over / under:.{1 if over >= under else 2}f}"

    def best(self, what, workload, threads):
        """Against the lineage at its best: what a step lost may be lost by the last step, too."""
        what = {"time": TIME, "memory": MEMORY}[what]
        values = {a.name: self.value(what, a.name, workload, threads) for a in self.runs.allocators
                  if a.name not in (benchlib.OURS, "glibc")}
        name = min((name for name, value in values.items() if value is not None), key=values.get, default=None)
        return f"{self.ratio(what, benchlib.OURS, name, workload, threads)} times that of {name}" if name else FAILS

    def table(self, what, workload):
        """A row for each design, a column for each number of threads; the last compares with rnAlloc."""
        what = {"time": TIME, "memory": MEMORY}[what]
        counts = [key.rpartition("-")[2] for key in self.cells if key.rpartition("-")[0] == workload]
        if not counts:
            raise Failure(f"{TEXT.name}: no workload \"{workload}\" was measured")
        best = {count: min(value for design in self.designs
                           if (value := self.value(what, design, workload, count)) is not None) for count in counts}
        rows = []
        for design, allocator in self.designs.items():
            values = [self.value(what, design, workload, count) for count in counts]
            ours = [self.value(what, benchlib.OURS, workload, count) for count in counts]
            ratios = [value / our for value, our in zip(values, ours) if value and our]
            mean = f"{geometric_mean(ratios):.2f}" if len(ratios) == len(counts) else "-"
            rows.append([allocator.title, *(FAILS if value is None else
                                            f"**{shown(value)}**" if value == best[count] else shown(value)
                                            for value, count in zip(values, counts)), mean])
        head = [f"`{workload}`: {'ns per operation' if what == TIME else 'peak MiB'}",
                *(f"{count} thread{'s' * (count != '1')}" for count in counts), "over rnAlloc, mean"]
        return table(head, rows)

    def failures(self):
        lines = [f"- {allocator.title}, {cell.title}: {why}" for cell in self.runs.cells
                 for allocator in self.runs.allocators if (why := self.runs.failure(cell, allocator))]
        return "\n".join(["Where a design failed:", "", *lines]) if lines else "No design failed."

    def place(self, words):
        verb, *rest = words.split()
        verbs = {
            "time": lambda d, w, t: self.one(TIME, d, w, t), "memory": lambda d, w, t: self.one(MEMORY, d, w, t),
            "times": lambda a, b, w, t: self.ratio(TIME, a, b, w, t),
            "memories": lambda a, b, w, t: self.ratio(MEMORY, a, b, w, t),
            "best": self.best, "table": self.table, "failures": self.failures,
            "designs": lambda: ", ".join(f"`{a.title}`" for a in self.runs.allocators),
        }
        try:
            return verbs[verb](*rest)
        except (KeyError, TypeError):
            raise Failure(f"{TEXT.name}: \"{{{{{words}}}}}\" is no place that can be filled in") from None


def shown(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 1 else f"{value:.2f}"


def filled(text, runs):
    filler = Filler(runs)
    return re.sub(r"\{\{(.*?)\}\}", lambda match: filler.place(match.group(1)), text)


def chapter(results):
    raw = results.raw["lineage"]
    quick = "**A quick run; not the figures to quote.** " if raw.get("quick") else ""
    machine = f"{quick}{raw['rounds']} interleaved rounds, medians.\n\n{benchlib.machine_table(raw['machine'])}"
    text = filled(TEXT.read_text(), results.runs["lineage"])
    return text.replace("[machine]", machine, 1)
