"""What scripts/results measured, read back from its JSON files: rows of rnAlloc against its best peer, and notes."""
import json
import pathlib
import re

import benchlib
from benchlib import Failure, geometric_mean
from benchruns import MEMORY, TIME, Runs

NOTES = pathlib.Path(__file__).resolve().with_name("results-notes.md")
LOSS = 1.05      # a ratio above is a loss, one below its inverse a win
GOAL_ROW = 1.20  # no row should be above
KEPT = "kept"    # groups of rows
GROUPS = {"workloads": "RnBench's workloads", "traces": "recorded traces", "programs": "whole programs",
          KEPT: "memory kept"}


def read_part(folder, name):
    """The JSON of a part; None where there is none. A damaged file ends the run: it is not the user's to guess."""
    path = pathlib.Path(folder, f"{name}.json")
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text())
        raw["machine"]["date"]
    except (ValueError, KeyError, TypeError):
        raise Failure(f"{path} is damaged; measure it again: scripts/results --only {name}") from None
    return raw


def is_quick(raw):
    """The other scripts do not say it, but only quick runs have them do a single round."""
    return raw.get("quick", raw.get("rounds") == 1)


def lasting(facts):
    return {name: value for name, value in facts.items() if name not in ("date", "load average at the start")}


class Row:
    """One workload and one measure: ours against the best peer. `key` is what a note is found by."""

    def __init__(self, group, cell, what, unit, ours, peers):
        self.group, self.title, self.what, self.unit = group, cell[1], what, unit
        self.key = f"{cell[0]} {what}"
        self.ours = ours
        self.peer, self.best = min(peers.items(), key=lambda item: item[1]["median"])
        self.best = self.best["median"]
        self.ratio = ours["median"] / self.best


def program_runs(raw):
    """The same form as scripts/results' own parts, of what scripts/programs wrote."""
    titles = raw["titles"]
    entries = [{"cell": f"program-{entry['program']}", "title": entry["program"], "arguments": [], "timed": True,
                "allocator": entry["allocator"], "allocator_title": titles[entry["allocator"]],
                "runs": [{TIME: run["seconds"] * 1e3, MEMORY: run["peak_mib"]} for run in entry["runs"]]}
               for entry in raw["runs"]]
    return Runs.read(entries)


class Results:
    """All parts there are; a missing one is None."""

    def __init__(self, folder, notes=NOTES):
        self.folder = pathlib.Path(folder)
        self.notes = read_notes(notes)
        self.raw, self.runs = {}, {}
        for name in ("workloads", "kept", "threads", "latency", "counters", "traces", "lineage", "instructions",
                     "flames", "programs", "figures", "compare"):
            raw = self.raw[name] = read_part(folder, name)
            if raw and name == "programs":
                if "titles" in raw:
                    self.runs[name] = program_runs(raw)
            elif raw and "runs" in raw:
                self.runs[name] = Runs.read(raw["runs"])

    def stamp(self, name, like=None):
        """Machine, versions, date, rounds and form of a part, in one line; shorter where all but the date and the load
        is as in the part `like`, which the reader has just seen."""
        raw = self.raw[name]
        rounds = f"; {raw['rounds']} interleaved rounds" if raw.get("rounds") else ""
        quick = "**a quick run, not to be quoted**; " if is_quick(raw) else ""
        same = like and self.raw.get(like) and lasting(self.raw[like]["machine"]) == lasting(raw["machine"])
        what = f"{raw['machine']['date']}, same machine and versions" if same else benchlib.stamp(raw["machine"])
        return f"{quick}{what}{rounds}."

    def rows(self, group):
        runs = self.runs.get(group)
        if not runs:
            return []
        ours = [a for a in runs.allocators if a.name == benchlib.OURS]
        peers = [a for a in runs.allocators if a.name != benchlib.OURS]
        if not ours or not peers:
            return []
        rows, unit = [], {"programs": "ms", "traces": "ns per event"}.get(group, "ns per operation")
        for cell in runs.cells:
            for what in (TIME, MEMORY):
                values = {peer.title: runs.summary(cell, peer, what) for peer in peers}
                if cell.tells(what) and min(value["median"] for value in values.values()) > 0:
                    rows.append(Row(group, (cell.key, cell.title), what, unit if what == TIME else "MiB",
                                    runs.summary(cell, ours[0], what), values))
        return rows

    def all_rows(self):
        return [row for group in GROUPS for row in self.rows(group)]


def means(rows, what):
    """(geometric mean, rows, worst row, rows above the goal) of a measure; None without rows."""
    chosen = [row for row in rows if row.what == what]
    if not chosen:
        return None
    return (geometric_mean([row.ratio for row in chosen]), len(chosen), max(chosen, key=lambda row: row.ratio),
            sum(row.ratio > GOAL_ROW for row in chosen))


def losses(rows):
    return sorted((row for row in rows if row.ratio > LOSS), key=lambda row: -row.ratio)


def wins(rows):
    return sorted((row for row in rows if row.ratio < 1 / LOSS), key=lambda row: row.ratio)


def read_notes(path):
    """Text by row key: in the file, `## KEY` or `## KEY, KEY` and what follows."""
    path = pathlib.Path(path)
    notes, keys = {}, []
    text = re.sub(r"<!--.*?-->", "", path.read_text(), flags=re.S) if path.exists() else ""
    for line in text.splitlines():
        if line.startswith("## "):
            keys = [key.strip() for key in line[3:].split(",")]
            for key in keys:
                if key in notes:
                    raise Failure(f"{path}: two notes for \"{key}\"")
                notes[key] = ""
        else:
            for key in keys:
                notes[key] = f"{notes[key]} {line.strip()}".strip()
    return notes
