"""What the scripts that measure share: allocators, proven runs, statistics, the machine, whole outputs."""
import argparse
import contextlib
import datetime
import json
import math
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE, OURS = "glibc", "rnalloc"
# What machine() tells that is about the machine.
NOT_VERSIONS = {"date", "CPU", "memory", "kernel", "transparent hugepages", "THP defrag",
                "load average at the start", "hyperfine"}


class Failure(Exception):
    """Something the user has to mend; told in one line, exit status 2."""


class Allocator:
    """A malloc to run programs under: its name, the file to preload (None: libc's own) and the Debian package."""

    def __init__(self, name, title, soname, package):
        self.name, self.title, self.soname, self.package = name, title, soname, package
        self.library = None
        self.variables = {}

    def environment(self):
        return {**self.variables, "LD_PRELOAD": str(self.library)} if self.library else dict(self.variables)


def all_allocators():
    return [
        Allocator(BASE, "glibc", None, "libc6"),
        Allocator("jemalloc", "jemalloc", "libjemalloc.so.2", "libjemalloc2"),
        Allocator("tcmalloc", "tcmalloc (gperftools)", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
        Allocator("mimalloc", "mimalloc", "libmimalloc.so.2", "libmimalloc2.0"),
        Allocator(OURS, "rnAlloc", "librnalloc.so", None),
    ]


def output_of(command, **keywords):
    """The standard output of a command, or "" where it cannot be run or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, **keywords).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def system_library(soname):
    """Where the dynamic loader finds a soname; its cache may list several architectures."""
    loader = shutil.which("ldconfig", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin") or "ldconfig"
    for line in output_of([loader, "-p"]).splitlines():
        match = re.match(r"\s*(\S+) \((.*)\) => (.+)", line)
        if match and match.group(1) == soname and ("x86-64" in match.group(2) or "AArch64" in match.group(2)):
            return pathlib.Path(match.group(3))
    return None


def specified(text):
    """The allocator that --allocator names: a known one, lineage:NAME, or NAME=/path/lib.so[,VARIABLE=VALUE...]."""
    # A comma begins a setting only before a name in capitals: values have commas of their own.
    spec, *settings = re.split(r",(?=[A-Z_][A-Z0-9_]*=)", text)
    if "," in spec:
        raise Failure(f"--allocator {text}: \"{spec.partition(',')[2]}\" is not VARIABLE=VALUE")
    name, equals, path = spec.partition("=")
    if name.startswith("lineage:") and not equals:
        path = ROOT / "build/lineage" / f"{name.removeprefix('lineage:')}.so"
        if not path.exists():
            raise Failure(f"--allocator {name}: no {path} (run make lineage)")
    if not path:
        known = {allocator.name: allocator for allocator in all_allocators()}
        if equals or name not in known:
            raise Failure(f"--allocator {text}: one of {', '.join(known)}, lineage:NAME, or NAME=/path/lib.so")
        allocator = known[name]
    else:
        allocator = Allocator(name, name, None, None)
        allocator.library = pathlib.Path(path).resolve()
        if not allocator.library.is_file():
            raise Failure(f"--allocator {name}: no {path}")
    for setting in settings:
        variable, _equals, value = setting.partition("=")
        allocator.variables[variable] = value
    return allocator


def find_allocators(options):
    """The allocators to compare, each with its library found. A missing one ends the run, unless --skip-missing."""
    found = []
    chosen = getattr(options, "allocator", None)
    known = [specified(text) for text in chosen] if chosen else all_allocators()
    names = [allocator.name for allocator in known]
    if len(set(names)) < len(names):
        raise Failure("--allocator: a name stands there twice")
    if options.only:
        wanted = options.only.split(",")
        unknown = [name for name in wanted if name not in [allocator.name for allocator in known]]
        if unknown:
            raise Failure(f"unknown allocator \"{unknown[0]}\": one of "
                          + ", ".join(allocator.name for allocator in known))
        known = [allocator for allocator in known if allocator.name in wanted]
    for allocator in known:
        if allocator.name == OURS:
            path = pathlib.Path(options.library).resolve()
            allocator.library = path if path.exists() else None
            hint = f"no {path} (run make)"
        elif allocator.soname:
            allocator.library = system_library(allocator.soname)
            hint = f"no {allocator.soname} (Debian package {allocator.package})"
        if allocator.soname and not allocator.library:
            if not options.skip_missing:
                raise Failure(f"{allocator.title} is missing: {hint}; --skip-missing goes on without it")
            say(f"{allocator.title} is missing: {hint}; going on without it")
        else:
            found.append(allocator)
    return found


def clean_environment(allocator=None):
    """Ours without what would steer an allocator, so that each runs as it comes; plus the preload."""
    steering = re.compile(r"LD_PRELOAD|GLIBC_TUNABLES|RNALLOC_|LINEAGE_|MALLOC_|MIMALLOC_|TCMALLOC_|_RJEM_")
    environment = {name: value for name, value in os.environ.items() if not steering.match(name)}
    environment.update(allocator.environment() if allocator else {})
    return environment


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


def prove(allocator, report):
    """Fails unless the run's own report says that its malloc came from the allocator's file."""
    used = pathlib.Path(report["allocator_object"])
    if allocator.library:
        proven = used == allocator.library.resolve()
    else:
        proven = used.name.startswith("libc.so") or used.name.startswith("libc-")
    if not proven:
        raise Failure(f"{allocator.title} did not take effect: malloc came from {used}")


def read_report(allocator, text):
    try:
        report = json.loads(text)
    except ValueError:
        raise Failure(f"rnbench under {allocator.title} gave no JSON") from None
    prove(allocator, report)
    return report


def run_rnbench(rnbench, allocator, arguments, limit=None):
    """One run of rnbench under an allocator: its report. `limit` in seconds."""
    words = [arguments[0], "--json", *arguments[1:]] if arguments[:1] == ["replay"] else [*arguments, "--json"]
    done = subprocess.run([str(rnbench), *words], env=clean_environment(allocator), capture_output=True,
                          text=True, timeout=limit)
    if done.returncode != 0:
        raise Failure(f"rnbench under {allocator.title} failed with status {done.returncode}: {last_line(done.stderr)}")
    return read_report(allocator, done.stdout)


def rotated(items, by):
    """Another order in each round, so that no allocator always runs after the same one."""
    by %= len(items)
    return items[by:] + items[:by]


def summary(values):
    return {
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "sigma": statistics.stdev(values) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
        "count": len(values),
    }


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def text_of(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return "not known"


def package_version(package):
    return output_of(["dpkg-query", "-W", "-f", "${Version}", package]) or "not a package"


def digest(path):
    """Tells one file from another; "" where there is none."""
    return output_of(["sha256sum", str(path)])[:12]


def our_version(library):
    """The commit the tree stands at, and whether the tree differs from it, and what the measured file hashes to."""
    commit = output_of(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]) or "no commit"
    changed = output_of(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit}{' with changes' if changed else ''}, sha256 {digest(library)}"


def version_of(allocator):
    settings = "".join(f", {name}={value}" for name, value in allocator.variables.items())
    if allocator.name == OURS:
        return our_version(allocator.library) + settings
    if allocator.package:
        return f"{allocator.package} {package_version(allocator.package)}{settings}"
    return f"{allocator.library.name}, sha256 {digest(allocator.library)}{settings}"


def machine(allocators, rnbench):
    """What the numbers depend on, as name and value. Proves every allocator by a short run, before the long ones."""
    modes = {allocator.name: run_rnbench(rnbench, allocator, ["--slots", "1", "--iters", "1"])["rnalloc_mode"]
             for allocator in allocators}
    cpu = re.search(r"^model name\s*: (.*)$", text_of("/proc/cpuinfo"), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", text_of("/proc/meminfo"), re.M)
    thp = "/sys/kernel/mm/transparent_hugepage/"
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{cpu.group(1) if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} usable",
        "memory": f"{int(memory.group(1)) / 2**20:.1f} GiB" if memory else "not known",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "transparent hugepages": text_of(thp + "enabled"),
        "THP defrag": text_of(thp + "defrag"),
        "load average at the start": " ".join(text_of("/proc/loadavg").split()[:3]),
        "hyperfine": output_of(["hyperfine", "--version"]).removeprefix("hyperfine ") or "not installed",
    }
    for allocator in allocators:
        facts[allocator.title] = version_of(allocator)
    if OURS in modes:
        facts["mode of rnAlloc"] = modes[OURS]
    return facts


def dumps(raw):
    """JSON with a line for each item of each list at the top: small differences stay small ones."""
    lines = []
    for name, value in raw.items():
        if isinstance(value, list) and value:
            items = ",\n  ".join(json.dumps(item) for item in value)
            lines.append(f" {json.dumps(name)}: [\n  {items}\n ]")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def stamp(facts):
    """The machine in one line, for a table that stands among others."""
    versions = [f"{name} {value}" for name, value in facts.items() if name not in NOT_VERSIONS]
    return (f"{facts['date']}; {facts['CPU']}, {facts['memory']}, {facts['kernel']}, THP "
            f"{facts['transparent hugepages']}; {'; '.join(versions)}")


def machine_table(facts):
    return table(["machine", ""], [[name, value] for name, value in facts.items()])


def table(head, rows):
    """A Markdown table; the first column is left-aligned, the others right-aligned."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def say(text):
    print(text, file=sys.stderr, flush=True)


def need_folder(folder):
    """Fails now and not after the measurements where nothing can be written."""
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder):
        pass


def write_results(folder, files):
    """Writes all files or none: into a temporary folder beside them first, then renamed into place."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
        for name, text in files.items():
            pathlib.Path(unfinished, name).write_text(text)
        for name in files:
            os.replace(pathlib.Path(unfinished, name), folder / name)
            say(f"wrote {folder / name}")


class Parser(argparse.ArgumentParser):
    """argparse, but with errors of one line."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def add_common_options(parser, quick, usual, full, only="--only"):
    rounds = parser.add_mutually_exclusive_group()
    rounds.add_argument("--quick", dest="rounds", action="store_const", const=quick, help=f"{quick} rounds")
    rounds.add_argument("--full", dest="rounds", action="store_const", const=full, help=f"{full} rounds")
    rounds.add_argument("--rounds", type=positive, default=usual, metavar="R", help=f"rounds (default {usual})")
    parser.set_defaults(rounds=usual)  # the first of the three alone would decide otherwise, and has no default
    parser.add_argument("--out", default=ROOT / "results", metavar="DIR", help="where to write (default results/)")
    parser.add_argument("--skip-missing", action="store_true", help="go on without an allocator that is not installed")
    parser.add_argument(only, dest="only", metavar="A,B,...", help="only these allocators of them")
    parser.add_argument("--allocator", action="append", metavar="SPEC",
                        help="in place of the usual five, as often as wanted: one of them by name, lineage:NAME, or "
                             "NAME=/path/lib.so[,VARIABLE=VALUE...]")
    parser.add_argument("--rnbench", default=ROOT / "build/rnbench", metavar="PATH", help="the benchmark")
    parser.add_argument("--library", default=ROOT / "build/librnalloc.so", metavar="PATH", help="rnAlloc's library")


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def need_program(path):
    if not shutil.which(str(path)):
        raise Failure(f"cannot run {path}" + (" (run make bench)" if "rnbench" in str(path) else " (install it)"))


@contextlib.contextmanager
def one_line_errors(name, standing="nothing was written"):
    """Turns what can go wrong into one line on stderr and exit status 2; a signal, too, leaves nothing half-written."""

    def stop(number, _frame):
        raise Failure(f"stopped by {signal.Signals(number).name}; {standing}")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        yield
    except Failure as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"{name}: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
