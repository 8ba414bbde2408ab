"""Two kinds of picture as SVG: rows of bars, two panels side by side, and lines over a common axis. Colours by Okabe
and Ito, which the colour-blind can tell apart; every line also has a marker of its own."""
import html
import math

COLOURS = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a3b00"]
MARKERS = ["circle", "square", "diamond", "triangle", "cross", "ring", "circle", "square"]
WIDTH, FONT = 960, 12


def text(x, y, words, anchor="start", size=FONT):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
            f'{html.escape(str(words))}</text>')


def document(height, parts):
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
                      f'height="{height:.0f}" font-family="sans-serif">',
                      f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>', *parts, "</svg>"]) + "\n"


def legend(names, x, y):
    parts = []
    for index, name in enumerate(names):
        parts += [marker(index, x + 5, y - 4), text(x + 14, y, name)]
        x += 24 + 7 * len(name)
    return parts


def marker(index, x, y, size=4):
    colour, shape = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    if shape in ("circle", "ring"):
        fill = colour if shape == "circle" else "#fff"
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
    path = {"square": "M-1,-1H1V1H-1Z", "diamond": "M0,-1.3L1.3,0L0,1.3L-1.3,0Z", "triangle": "M0,-1.2L1.2,1H-1.2Z",
            "cross": "M-1,-1L1,1M1,-1L-1,1"}[shape]
    return (f'<path d="{path}" transform="translate({x:.1f},{y:.1f}) scale({size})" fill="{colour}" stroke="{colour}" '
            'stroke-width="0.4"/>')


def bars(title, names, panels):
    """Panels side by side, each (heading, rows); a row is (label, value by name or None). Bars are cut at 3."""
    cut, thick, left, gap = 3.0, 9, 190, 30
    labels = [label for label, _values in panels[0][1]]
    row_height = thick * len(names) + 10
    panel = (WIDTH - left - gap - 50) / 2
    parts = [text(10, 20, title, size=15), *legend(names, 10, 42)]
    top = 82
    for row, label in enumerate(labels):
        parts.append(text(left - 8, top + row * row_height + row_height / 2, label, "end"))
    for number, (heading, rows) in enumerate(panels):
        x = left + number * (panel + gap + 20)
        scale = panel / cut
        parts += [text(x, top - 20, heading, size=13)]
        for tick in (0, 1, 2, 3):
            parts += [f'<line x1="{x + tick * scale:.1f}" x2="{x + tick * scale:.1f}" y1="{top - 6}" '
                      f'y2="{top + len(labels) * row_height - 6}" stroke="{"#888" if tick == 1 else "#ddd"}"/>',
                      text(x + tick * scale, top - 8, tick, "middle", 10)]
        for row, (_label, values) in enumerate(rows):
            for index, name in enumerate(names):
                value = values.get(name)
                if value is None:
                    continue
                y = top + row * row_height + index * thick
                shown = min(value, cut)
                parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{shown * scale:.1f}" height="{thick - 1}" '
                             f'fill="{COLOURS[index % len(COLOURS)]}">'
                             f'<title>{html.escape(name)}: {value:.2f}</title></rect>')
                if value > cut:
                    parts.append(text(x + shown * scale + 2, y + thick - 1, f"{value:.1f}", size=9))
    return document(top + len(labels) * row_height + 10, parts)


def ticks_of(low, high, logarithmic):
    if logarithmic:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        powers = [10.0 ** power for power in range(first, last + 1)]
        if last - first > 2:
            return powers if len(powers) > 1 else [powers[0], powers[0] * 10]
        finer = [power * step for power in powers for step in (1, 2, 5)]
        start = max(index for index, tick in enumerate(finer) if tick <= low)
        end = min((index for index, tick in enumerate(finer) if tick >= high), default=len(finer) - 1)
        return finer[start:max(end, start + 1) + 1]
    step = 10.0 ** math.floor(math.log10(high / 4)) if high > 0 else 1
    step *= next(factor for factor in (1, 2, 5, 10) if high / (step * factor) <= 6)
    return [step * number for number in range(int(high / step) + 2)]


def lines(title, names, charts, columns=1):
    """Charts in columns, each (heading, x labels, logarithmic, values by name: one per x, None is a gap)."""
    height, space = 240, 70
    parts = [text(10, 20, title, size=15), *legend(names, 10, 42)]
    for number, chart in enumerate(charts):
        row, column = divmod(number, columns)
        parts += one_chart(names, chart, 70 + column * WIDTH / columns, (column + 1) * WIDTH / columns - 20,
                           80 + row * (height + space), height)
    return document(80 + -(-len(charts) // columns) * (height + space), parts)


def one_chart(names, chart, left, right, top, height):
    heading, places, logarithmic, series = chart
    known = [value for values in series.values() for value in values if value is not None] or [1]
    if logarithmic:
        known = [max(value, 1e-3) for value in known]
    ticks = ticks_of(min(known), max(known), logarithmic)

    def scale(value):
        return math.log10(max(value, 1e-3)) if logarithmic else value
    low, high = scale(ticks[0]), scale(ticks[-1])

    def y_of(value):
        return top + height - (scale(value) - low) / ((high - low) or 1) * height

    def x_of(place):
        return left + (place + 0.5) * (right - left) / len(places)
    parts = [text(left, top - 10, heading, size=13)]
    for tick in ticks:
        y = y_of(tick)
        parts += [f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
                  text(left - 6, y + 4, f"{tick:,.10g}", "end", 10)]
    parts += [text(x_of(place), top + height + 16, label, "middle", 10) for place, label in enumerate(places)]
    for index, name in enumerate(names):
        points = [(x_of(place), y_of(value))
                  for place, value in enumerate(series.get(name, [])) if value is not None]
        if points:
            colour = COLOURS[index % len(COLOURS)]
            parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="'
                         + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')
        parts += [marker(index, x, y) for x, y in points]
    return parts
