"""Stacks as perf prints them, folded and drawn: a flame graph after Gregg (The flame graph, CACM 59, 2016)."""
import collections
import hashlib
import html
import re

ROW, FONT, WIDTH, SMALLEST = 17, 12, 1200, 0.4


def folded(text):
    """Counts by stack (outermost function first) from the output of `perf script -F comm,ip,sym`."""
    counts = collections.Counter()
    for block in text.strip().split("\n\n"):
        head, *frames = block.splitlines()
        names = []
        for frame in frames:
            match = re.match(r"\s*[0-9a-f]+\s+(.*?)(?:\+0x[0-9a-f]+)?\s*$", frame)
            if match:
                names.append(match.group(1) or "[unknown]")
        if names:
            counts[(head.split()[0], *reversed(names))] += 1
    return counts


class Node:
    def __init__(self, name):
        self.name, self.count, self.children = name, 0, {}

    def add(self, stack, count):
        self.count += count
        if stack:
            self.children.setdefault(stack[0], Node(stack[0])).add(stack[1:], count)

    def depth(self):
        return 1 + max((child.depth() for child in self.children.values()), default=0)


def colour(name):
    """The same function has the same colour in every graph; kernel functions cannot be told from others by name."""
    digest = hashlib.sha256(name.encode()).digest()
    return f"rgb({205 + digest[0] % 50},{80 + digest[1] % 130},{digest[2] % 55})"


def boxes(node, left, level, scale, total, height):
    width = node.count * scale
    if width < SMALLEST:
        return
    top = height - (level + 1) * ROW - 4
    name = html.escape(node.name)
    room = int(width / (FONT * 0.6)) - 1
    label = html.escape(node.name if len(node.name) <= room else node.name[:room - 2] + "..") if room >= 3 else ""
    yield (f'<g><title>{name}: {node.count} samples, {100 * node.count / total:.2f} %</title>'
           f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 1}" fill="{colour(node.name)}" rx="1"/>'
           + (f'<text x="{left + 3:.1f}" y="{top + 12}">{label}</text>' if label else "") + "</g>")
    for child in sorted(node.children.values(), key=lambda other: other.name):
        yield from boxes(child, left, level + 1, scale, total, height)
        left += child.count * scale


def svg(counts, title):
    root = Node("all")
    for stack, count in counts.items():
        root.add(stack, count)
    height = root.depth() * ROW + 40
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
             f'height="{height}" font-family="monospace" font-size="{FONT}">',
             f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
             f'<text x="8" y="18" font-size="14">{html.escape(title)}</text>']
    lines += boxes(root, 0, 0, WIDTH / max(1, root.count), max(1, root.count), height)
    return "\n".join([*lines, "</svg>"]) + "\n"
