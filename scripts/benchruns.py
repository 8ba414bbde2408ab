"""Runs of rnbench by cell and allocator, interleaved, and what is told of them. Shared by scripts/bench and results."""
import subprocess
import time

import benchlib
from benchlib import Failure, geometric_mean, say, summary, table

MIB = 2**20
TIME, MEMORY = "time", "memory"
LONGEST = 120  # seconds of a run that may fail
# What counts as a workload's memory where it is not the peak of rnbench itself.
OTHER_MEMORY = ("rss_kept_bytes", "rss_later_bytes")


# Without --touch they never write to a block: then what is resident is not what the blocks take, and an allocator that
# keeps nothing beside them would seem to need no memory at all.
UNWRITTEN = {"slots", "sequential", "strided", "bucket"}


class Cell:
    """One way to start rnbench: a key, a title for the tables, and the arguments. What sleeps is not timed; where blocks
    are not written, memory is not compared."""

    def __init__(self, key, title, *arguments):
        self.key, self.title, self.arguments = key, title, list(arguments)
        self.timed = not {"idle", "release"} & set(arguments)
        self.written = "--touch" in arguments or not UNWRITTEN & set(arguments)

    def tells(self, what):
        return self.timed if what == TIME else self.written

    def run(self, rnbench, allocator, limit=None):
        """One run: what is kept of it."""
        return taken(benchlib.run_rnbench(rnbench, allocator, self.arguments, limit))


class Replay(Cell):
    """A trace, its threads as recorded. Time is per event; memory is what the replay added to the process."""

    def run(self, rnbench, allocator, limit=None):
        report = benchlib.run_rnbench(rnbench, allocator, ["replay", *self.arguments], limit)
        return {TIME: report["ms"] * 1e6 / max(1, report["events"]), MEMORY: report["peak_resident_bytes"] / MIB,
                **{name: report[name] for name in ("events", "blocks", "threads", "ms", "peak_live_bytes",
                                                   "peak_resident_bytes", "kept_bytes", "utilization")}}


def memory(report):
    """Bytes of the process less the benchmark's own tables, which are the same under every allocator and would draw
    all ratios towards 1. What the loader, the allocator's own code and data, and the stacks take is in it."""
    results = report["results"]
    if "child_peak_rss_bytes" in results:
        return results["child_peak_rss_bytes"]
    return next((results[name] for name in OTHER_MEMORY if name in results), report["peak_rss_bytes"]) - report["own_bytes"]


def taken(report):
    """What is kept of a run: nanoseconds per operation, bytes at the peak, and the rest as it was reported."""
    results = report["results"]
    kept = {name: report[name] for name in (
        "total_ns", "ops", "ops_per_second", "peak_rss_bytes", "own_bytes", "rss_before_bytes", "rss_end_bytes", "minor_faults",
        "major_faults", "user_ns", "system_ns", "voluntary_switches", "involuntary_switches", "rnalloc_mode",
        "results")}
    for name in ("latency", "counters", "peak_live_bytes"):
        if name in report:
            kept[name] = report[name]
    kept[TIME] = report["total_ns"] / max(1, report["ops"])
    kept[MEMORY] = memory(report) / MIB
    return kept


class Runs:
    """Values by (cell key, allocator name), in the order of the rounds."""

    def __init__(self, allocators, cells):
        self.allocators, self.cells = allocators, cells
        self.runs = {}

    def measure(self, rnbench, rounds, until=None, may_fail=False):
        """Each round runs every cell under every allocator, one after the other. After `until` (a time.monotonic) no
        new round is begun; one is always run. A run that `may_fail` is kept as why it did, and not tried again."""
        start = time.monotonic()
        for number in range(rounds):
            if number and until and time.monotonic() + (time.monotonic() - start) / number > until:
                say(f"stopped after {number} rounds: the time is up")
                break
            for position, cell in enumerate(self.cells):
                for allocator in benchlib.rotated(self.allocators, number + position):
                    if number and self.failure(cell, allocator):
                        continue
                    try:
                        run = cell.run(rnbench, allocator, LONGEST if may_fail else None)
                    except (Failure, subprocess.TimeoutExpired) as failure:
                        if not may_fail or "did not take effect" in str(failure) or "stopped by" in str(failure):
                            raise
                        run = {"failed": str(failure)}
                    self.runs.setdefault((cell.key, allocator.name), []).append(run)
            say(f"round {number + 1} of {rounds} done after {time.monotonic() - start:.0f} s")
        return self

    def failure(self, cell, allocator):
        """Why it has no values, or None."""
        return next((run["failed"] for run in self.runs.get((cell.key, allocator.name), []) if "failed" in run), None)

    def rounds(self):
        return max(len(values) for values in self.runs.values())  # fewer only where a run failed

    def summary(self, cell, allocator, what):
        """Of a number that taken() keeps, or of a function of a run."""
        value = what if callable(what) else lambda run: run[what]
        return summary([value(run) for run in self.runs[cell.key, allocator.name]])

    def median(self, cell, allocator, what):
        return self.summary(cell, allocator, what)["median"]

    def best_peer(self, cell, what):
        """(median, allocator) of the best that is not ours; None without peers."""
        peers = [allocator for allocator in self.allocators if allocator.name != benchlib.OURS]
        return min(((self.median(cell, peer, what), peer) for peer in peers), key=lambda pair: pair[0], default=None)

    def ratio(self, cell, what):
        """Our median over the best peer's; None without either."""
        ours = [allocator for allocator in self.allocators if allocator.name == benchlib.OURS]
        best = self.best_peer(cell, what)
        return self.median(cell, ours[0], what) / best[0] if ours and best and best[0] > 0 else None

    def table(self, what, base, digits=1):
        """Median ± half the spread and the ratio to the base; the best of a row is bold; geometric means below."""
        head = ["", *(allocator.title for allocator in self.allocators)]
        rows, ratios = [], {allocator.name: [] for allocator in self.allocators}
        cells = [cell for cell in self.cells if cell.tells(what)]
        for cell in cells:
            summaries = {a.name: self.summary(cell, a, what) for a in self.allocators}
            best = min(entry["median"] for entry in summaries.values())
            row = [cell.title]
            for allocator in self.allocators:
                entry = summaries[allocator.name]
                ratio = entry["median"] / summaries[base.name]["median"] if summaries[base.name]["median"] else 1
                ratios[allocator.name].append(max(ratio, 1e-9))
                median = f"{entry['median']:,.{digits}f}"
                median = f"**{median}**" if entry["median"] == best else median
                row.append(f"{median} ({entry['min']:,.{digits}f}..{entry['max']:,.{digits}f}), {ratio:.2f}")
            rows.append(row)
        if len(cells) > 1:
            rows.append(["geometric mean of the ratios", *(f"{geometric_mean(ratios[a.name]):.2f}"
                                                           for a in self.allocators)])
        return table(head, rows)

    def raw(self):
        return [{"cell": cell.key, "title": cell.title, "arguments": cell.arguments, "timed": cell.timed,
                 "allocator": allocator.name, "allocator_title": allocator.title,
                 "runs": self.runs[cell.key, allocator.name]}
                for cell in self.cells for allocator in self.allocators]

    @classmethod
    def read(cls, raw):
        """The same from what raw() gave: for tables and pictures, not for further runs."""
        cells, allocators, values = {}, {}, {}
        for entry in raw:
            cell = cells.setdefault(entry["cell"], Cell(entry["cell"], entry["title"], *entry["arguments"]))
            cell.timed = entry["timed"]
            name = entry["allocator"]
            allocators.setdefault(name, benchlib.Allocator(name, entry["allocator_title"], None, None))
            values[cell.key, name] = entry["runs"]
        runs = cls(list(allocators.values()), list(cells.values()))
        runs.runs = values
        return runs
