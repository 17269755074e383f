"""Draw the two pictures of docs/inside.rst: python docs/images/draw.py"""

from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
FLOORS = [
    ("command line, pictures, scikit-learn", "cli  viz  sklearn", "#dbe7f5"),
    ("layers and networks", "layers/", "#dbe7f5"),
    ("functions", "convolution  pool  activations  linear  stage  numpycnn", "#dbe7f5"),
    ("checks", "_checks  config", "#dbe7f5"),
    ("the C API: needs nothing above", "capi  _handles  _params", "#e4f0dc"),
    (
        "plans and calls over arrays",
        "_repeat _chain _stage _dense _conv _pool _activation _arrays",
        "#e4f0dc",
    ),
    ("one call in plain C terms", "_driver", "#e4f0dc"),
    ("loops", "_blocks  _planes  _amx  _winograd  _plan", "#e4f0dc"),
    ("instruction set and threads", "_engine", "#e4f0dc"),
    ("register tiles, thread pool", "kernels/*.c", "#f7e6d0"),
]
STEPS = [
    ("conv2d(x, filters, ...)", "any array, any layout", "#dbe7f5"),
    ("check", "shapes, dtypes, numbers; or a sentence", "#dbe7f5"),
    ("look up the plan", "by shape, dtype and options", "#dbe7f5"),
    ("pack the filters", "panels of two vectors; once with PackedFilters", "#e4f0dc"),
    ("share out tasks", "images, bands of rows, panels: never a sum", "#e4f0dc"),
    ("cut rectangles", "edges and middle: one list of taps each", "#e4f0dc"),
    ("register tile", "14 pixels × 2 vectors of filters", "#f7e6d0"),
    ("bias, activation, store", "while the sums are in registers", "#f7e6d0"),
]
LANGUAGES = [("Python", "#dbe7f5"), ("Cython", "#e4f0dc"), ("C", "#f7e6d0")]


def text(x, y, content, size, anchor="start", **attributes):
    """Return a line of text."""
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{more}>'
        f"{escape(content)}</text>"
    )


def box(x, y, width, height, color):
    """Return a box with round corners."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{color}" '
        'stroke="#555"/>'
    )


def picture(width, height, parts):
    """Return an SVG file on a white ground, with a legend of the languages."""
    legend = []
    for i, (name, color) in enumerate(LANGUAGES):
        x = width - 250 + 85 * i
        legend += [box(x, height - 26, 14, 14, color), text(x + 20, height - 14, name, 13)]
    arrow = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" fill="#222">{arrow}'
        f'<rect width="{width}" height="{height}" fill="white"/>' + "\n".join([*parts, *legend])
    ) + "</svg>\n"


def arrow(x1, y1, x2, y2):
    """Return an arrow."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#555" marker-end="url(#tip)"/>'


def house():
    """The floors of the package; imports point down."""
    parts, y = [], 10
    for title, names, color in FLOORS:
        parts += [
            box(40, y, 690, 38, color),
            text(54, y + 24, title, 14, font_weight="bold"),
            text(716, y + 24, names, 13, "end", font_family="monospace"),
        ]
        y += 44
    parts.append(arrow(20, 16, 20, y - 8))
    parts.append(
        text(0, 0, "imports", 13, "middle", transform=f"translate(13 {y / 2}) rotate(-90)")
    )
    return picture(740, y + 34, parts)


def path():
    """A convolution's way from the call to the stored result, in two columns."""
    parts = []
    half = len(STEPS) // 2
    for i, (title, detail, color) in enumerate(STEPS):
        column, row = divmod(i, half)
        x, y = 10 + 370 * column, 10 + 74 * row
        parts += [
            box(x, y, 340, 52, color),
            text(x + 14, y + 22, title, 14, font_weight="bold"),
            text(x + 14, y + 42, detail, 13),
        ]
        if row < half - 1:
            parts.append(arrow(x + 170, y + 52, x + 170, y + 73))
    bottom = 10 + 74 * (half - 1) + 26
    parts.append(
        f'<path d="M350 {bottom} H365 V36 H379" fill="none" stroke="#555" marker-end="url(#tip)"/>'
    )
    return picture(740, 74 * half + 34, parts)


(HERE / "house.svg").write_text(house(), encoding="utf-8")
(HERE / "path.svg").write_text(path(), encoding="utf-8")
