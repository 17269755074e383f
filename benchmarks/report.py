"""Tables, JSON and a picture of what `compare.py` measured."""

import json
import os
import platform
import sys
from math import exp, log
from pathlib import Path

from layers import operation_count


def progress(items, what):
    """Iterate with a bar on standard error, where tqdm is installed and a person is watching."""
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    return tqdm(items, desc=what, leave=False, disable=not sys.stderr.isatty())


def describe(options, contenders, absent):
    """Everything about a run but its numbers."""
    return {
        "machine": {
            "cpu": _cpu_name(),
            "cpus": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            # At the start: processes of others that were running or waiting to.
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "threads": options.threads,
        "precision": options.precision,
        "seconds": options.seconds,
        "contenders": {contender.name: contender.versions() for contender in contenders},
        "clock": "cpu" if options.cpu_time else "elapsed",
        "absent": absent,
    }


def _cpu_name():
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def print_layers(layers):
    """Print the name, the shape and the work of each layer."""
    for layer in layers:
        shape = "x".join(map(str, layer.shape))
        work = operation_count(layer) / 1e6
        print(f"{layer.name:34}{shape:>16}  {layer.dtype}{work:12.2f} MFLOP")


def print_head(run):
    """Print what takes part, and where."""
    machine = run["machine"]
    print(
        f"{machine['cpu']}, {machine['cpus']} CPUs, Python {machine['python']}; "
        f"threads: {run['threads']}; precision: {run['precision']}"
    )
    print("; ".join(dict.fromkeys(run["contenders"].values())))
    if machine["load"] is not None and machine["load"] > 0.5:
        print(f"The machine is busy (load {machine['load']:.1f}): expect unsteady numbers.")
    for name, message in run["absent"].items():
        print(f"without {name}: {message}")


def add_ratios(run):
    """Add to each layer its best peers and pycnn's ratios to them, and the geometric means."""
    for layer in run["layers"]:
        times = {
            name: record["us"] for name, record in layer["contenders"].items() if "us" in record
        }
        ours = times.get("pycnn")
        peers = {name: us for name, us in times.items() if not name.startswith("pycnn")}
        groups = {
            "best": peers,
            "direct": {
                name: us for name, us in peers.items() if layer["contenders"][name]["direct"]
            },
            "torch": {name: us for name, us in peers.items() if name.startswith("torch")},
        }
        layer["peer"] = min(peers, key=peers.get) if peers else None
        layer["ratio"] = {
            name: min(group.values()) / ours
            for name, group in groups.items()
            if ours is not None and group
        }
    run["geometric_mean"] = {}
    for name in ("best", "direct", "torch"):
        ratios = [layer["ratio"][name] for layer in run["layers"] if name in layer["ratio"]]
        if ratios:
            run["geometric_mean"][name] = exp(sum(map(log, ratios)) / len(ratios))


def _cells(rows, heads):
    """Print rows of text in columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    for row in (heads, *rows):
        first, *others = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join((first, *others)).rstrip())


def number(value):
    """Three or four significant digits, without an exponent where that is readable."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if value >= 1000:
        return f"{value:,.0f}" if value < 1e7 else f"{value:.2g}"
    if value < 0.01:
        return f"{value:.1g}"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def rst_table(heads, rows):
    """A table of text for the documentation: its first row is the heads."""
    # A hyphen alone would be a list with one item.
    cells = [[r"\-" if cell == "-" else cell for cell in row] for row in (heads, *rows)]
    lines = [", ".join(f'"{cell}"' for cell in row) for row in cells]
    return ".. csv-table::\n   :header-rows: 1\n\n" + "".join(f"   {line}\n" for line in lines)


def _time_cell(record):
    if record is None:
        return "-"
    return number(record["us"]) if "us" in record else record["status"]


def print_tables(run):
    """Print the times, then the ratios and errors."""
    names = [
        name
        for name in run["contenders"]
        if any(name in layer["contenders"] for layer in run["layers"])
    ]
    print(f"\nmicroseconds a call ({run['clock']} time)")
    rows = []
    for layer in run["layers"]:
        cells = [_time_cell(layer["contenders"].get(name)) for name in names]
        rows.append([layer["name"], *cells, layer["peer"] or "-"])
    _cells(rows, ["layer", *names, "best peer"])

    if "pycnn" in names:
        print("\npycnn: GFLOP/s, and how many times faster it is than the best peer, than the best")
        print("that sums directly, and than PyTorch; errors in units of eps * sum|x||w|")
        ratios = {"best": "x best", "direct": "x direct", "torch": "x torch"}
    else:
        print("\nGFLOP/s of the best peer; errors in units of eps * sum|x||w|")
        ratios = {}
    heads = ["layer", "GFLOP/s", *ratios.values(), *names]
    rows = []
    for layer in run["layers"]:
        records = layer["contenders"]
        shown = records.get("pycnn" if "pycnn" in names else layer["peer"], {})
        cells = [number(layer["ratio"].get(name)) for name in ratios]
        errors = [number(records.get(name, {}).get("error")) for name in names]
        rows.append([layer["name"], number(shown.get("gflops")), *cells, *errors])
    if run["geometric_mean"]:
        means = [number(run["geometric_mean"].get(name)) for name in ratios]
        rows.append(["geometric mean", "", *means, *[""] * len(names)])
    _cells(rows, heads)
    for layer in run["layers"]:
        for name, record in layer["contenders"].items():
            if record["status"] == "failed":
                print(f"{layer['name']}: {name} failed: {record['message']}")
            elif record["status"] == "wrong":
                print(
                    f"{layer['name']}: {name} ({record['form']}) is wrong by "
                    f"{record['error']:.3g} units, more than {record['limit']:.3g}"
                )


def read_baseline(path):
    """Read an earlier run, or nothing when no file is given."""
    if path is None:
        return None
    try:
        run = json.loads(path.read_text())
        run["layers"] = {layer["name"]: layer for layer in run["layers"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"compare.py: {path} is no --json file: {error}") from error
    return run


def print_baseline(run, baseline):
    """Print how many times faster pycnn is than it was in an earlier run."""
    print(f"\npycnn, {baseline['threads']} and now {run['threads']} threads: microseconds a call")
    rows = []
    for layer in run["layers"]:
        earlier = baseline["layers"].get(layer["name"], {"contenders": {}})
        pair = [source["contenders"].get("pycnn", {}).get("us") for source in (earlier, layer)]
        if None not in pair:
            rows.append([layer["name"], *map(number, pair), number(pair[0] / pair[1])])
    _cells(rows, ["layer", "before", "now", "times faster"])


def print_memory(run):
    """Print the scratch memory of each contender."""
    from layers import LARGEST

    print(f"\nscratch memory of one call, {LARGEST}")
    for name, found in run["memory"].items():
        if "message" in found:
            print(f"{name:14}{found['message']}")
        else:
            print(f"{name:14}{found['scratch_bytes'] / 2**20:8.1f} MiB  ({found['form']})")


def write_json(run, path):
    """Write everything measured."""
    path.write_text(json.dumps(run, indent=1) + "\n")


def draw(run, path):
    """Draw pycnn's ratio to the best peer for each layer."""
    from matplotlib.figure import Figure

    layers = [layer for layer in run["layers"] if "best" in layer["ratio"]][::-1]
    ratios = [layer["ratio"]["best"] for layer in layers]
    figure = Figure(figsize=(9, 1.6 + 0.24 * len(layers)), layout="constrained")
    axes = figure.subplots()
    colors = ["tab:green" if ratio >= 1 else "tab:red" for ratio in ratios]
    bars = axes.barh(
        [layer["name"] for layer in layers], [ratio - 1 for ratio in ratios], left=1, color=colors
    )
    labels = [f"{ratio:.2f}  {layer['peer']}" for ratio, layer in zip(ratios, layers, strict=True)]
    for bar, label, ratio in zip(bars, labels, ratios, strict=True):
        axes.annotate(
            label,
            (max(ratio, 1), bar.get_y() + bar.get_height() / 2),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlim(min(0.5, *ratios) * 0.9, max(2, *ratios) * 2.2)
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("times faster than the best peer (named beside the bar)")
    mean = run["geometric_mean"]["best"]
    axes.set_title(
        f"pycnn, {run['threads']} thread(s), precision {run['precision']}: "
        f"geometric mean {mean:.2f}\n{run['machine']['cpu']}",
        fontsize=10,
    )
    figure.savefig(path, dpi=150)


def exit_status(run):
    """One when a contender failed or pycnn was wrong, else zero."""
    for layer in run["layers"]:
        for name, record in layer["contenders"].items():
            if record["status"] == "failed":
                return 1
            if record["status"] == "wrong" and name.startswith("pycnn"):
                return 1
    return 0
