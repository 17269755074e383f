#!/usr/bin/env python
"""Time layers in pycnn and in every peer that is installed, side by side in one run.

Run it from a checkout, with pycnn installed or built in place::

    pip install -e ".[bench]"
    python benchmarks/compare.py                          # every layer, one thread
    python benchmarks/compare.py --threads 2 --baseline one.json
    python benchmarks/compare.py --only "resnet|vgg" --precision high
    python benchmarks/compare.py --json run.json --plot run.png

Without pycnn it times the peers alone.

How the contest is kept fair
    All contenders of a layer compute with the same numbers, and every result is compared with one
    of higher precision before its time counts: a wrong one is printed as ``wrong``.  Contenders
    take turns in one process and the best time of each counts, so a busy machine slows all of
    them alike.  What a library does once is outside the timing: packing weights, compiling a
    graph, converting the input to its layout.  A library with several ways to compute a layer
    (layouts, bound or returned output arrays) is timed in the fastest; ``--json`` says which.
    Peers compute in the dtype of the layer: 16-bit storage and arithmetic are off, except at
    ``--precision medium``, where they are on.

How to read the tables
    The first has the microseconds of a call; ``-`` where a peer does not offer the layer.
    ``torch-cl`` is PyTorch in channels-last format, ``torch-mkldnn`` PyTorch with packed weights
    and oneDNN's own layout; ``ncnn-direct`` is ncnn without Winograd's transforms, whose error has
    no bound of the usual kind; ``scipy`` stands for NumPy where SciPy has no such operation.
    ``pycnn`` packs its filters once, ``pycnn-call`` in each call.
    The second has pycnn's GFLOP/s, with two operations for a multiply-add; how many times faster
    it is than the best peer, than the best that sums products directly, and than the best of
    PyTorch, with the geometric means over all layers shown; and the error of every contender in
    units of ``eps * sum|x||w|`` (in a chain of operations, of the chain of absolute values).
    Memory is how far one call raises the resident memory of a fresh process, less the result: the
    scratch that a library needs beyond input, output and packed filters.
"""

import argparse
import importlib.util
import re
import sys
import time
from pathlib import Path

import timing


def parse(arguments=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog="The head of this file says how to read the tables.",
    )
    parser.add_argument("--threads", type=_positive_int, default=1, metavar="N")
    parser.add_argument(
        "--precision", choices=("highest", "high", "medium"), default="highest", help="pycnn's word"
    )
    parser.add_argument("--only", type=_regex, metavar="REGEX", help="layers whose name matches")
    parser.add_argument("--peers", metavar="NAME,...", help="columns to time beside pycnn")
    parser.add_argument(
        "--seconds", type=float, help="time for each layer (default 2; with --quick 0.4)"
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count CPU time instead of elapsed time: steadier on a busy machine, one thread only",
    )
    parser.add_argument("--quick", action="store_true", help="a few layers, briefly")
    parser.add_argument("--list", action="store_true", help="print the layers and stop")
    parser.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        help="measure memory (default: when all layers are timed)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="compare pycnn with an earlier --json FILE"
    )
    options = parser.parse_args(arguments)
    if options.cpu_time and options.threads > 1:
        parser.error("--cpu-time adds up the threads: it needs --threads 1")
    if options.seconds is None:
        options.seconds = 0.4 if options.quick else 2.0
    if options.memory is None:
        options.memory = not (options.quick or options.only)
    return options


def _positive_int(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _regex(text):
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}") from error


def chosen_layers(options):
    """Layers that the command line asks for."""
    from layers import all_layers

    layers = [layer for layer in all_layers() if layer.quick or not options.quick]
    if options.only:
        layers = [layer for layer in layers if options.only.search(layer.name)]
    if not layers:
        raise SystemExit("compare.py: no layer matches; see --list")
    return layers


def open_contenders(options):
    """Return the contenders that are installed, and why the others are not here."""
    from ours import OURS
    from peers import PEERS

    peers = PEERS
    if options.peers is not None:
        names = set(filter(None, options.peers.split(",")))
        unknown = names - {peer.name for peer in PEERS}
        if unknown:
            known = ", ".join(peer.name for peer in PEERS)
            raise SystemExit(f"compare.py: no peer {', '.join(sorted(unknown))}; there are {known}")
        peers = [peer for peer in PEERS if peer.name in names]
    contenders, absent = [], {}
    for kind in (*OURS, *peers):
        try:
            contenders.append(kind(options.threads, options.precision))
        except ImportError as error:
            absent[kind.name] = str(error)
    if not contenders:
        raise SystemExit("compare.py: neither pycnn nor any peer can be imported")
    return contenders, absent


def prepare(contender, layer, data, judge, precision):
    """Check every form of a contender and choose the fastest.

    Returns
    -------
    form : Form or None
        None when no form is right.
    record : dict
        ``status`` is ``"right"``, ``"wrong"`` or ``"failed"``, with ``form`` and ``error`` (of the
        answer), or ``message``.
    """
    direct = contender.sums_directly(layer)
    limit = judge.limit(precision, direct)
    right, wrong = [], []
    try:
        for form in contender.forms(layer, data):
            error = judge.error(np_array(form.result(form.run())))
            (right if error <= limit else wrong).append((form, error))
        if right:
            form, error = right[timing.fastest([form.run for form, _ in right])]
            record = {"status": "right", "form": form.name, "error": error, "direct": direct}
            return form, record
    except Exception as error:  # a contest goes on without the contender that failed
        return None, {"status": "failed", "message": f"{type(error).__name__}: {error}"}
    form, error = wrong[0]
    return None, {"status": "wrong", "form": form.name, "error": error, "limit": limit}


def np_array(value):
    """Return `value` as a NumPy array."""
    import numpy as np

    return np.asarray(value)


def measure(layer, contenders, options):
    """Time one layer in all contenders; return its row."""
    from layers import Judge, make_data, operation_count

    data = make_data(layer)
    judge = Judge(layer, data)
    forms, records = {}, {}
    for contender in contenders:
        if contender.applies(layer):
            form, records[contender.name] = prepare(
                contender, layer, data, judge, options.precision
            )
            if form is not None:
                forms[contender.name] = form
    # Threads of OpenMP and its like wait for more work before they sleep.
    pause = 0.025 if options.threads > 1 else 0.0
    operations = operation_count(layer)
    runs = {name: form.run for name, form in forms.items()}
    clock = time.process_time if options.cpu_time else time.perf_counter
    for name, seconds in timing.race(runs, options.seconds, pause, clock).items():
        records[name] |= {"us": seconds * 1e6, "gflops": operations / seconds / 1e9}
    return {
        "name": layer.name,
        "shape": list(layer.shape),
        "dtype": layer.dtype,
        "ops": [repr(op) for op in layer.ops],
        "operations": operations,
        "contenders": records,
    }


def check_targets(options):
    """Stop before the work when its results could not be written."""
    for path in (options.json, options.plot):
        if path is not None and not path.resolve().parent.is_dir():
            raise SystemExit(f"compare.py: {path}: no such folder")
    if options.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("compare.py: --plot needs matplotlib")


def main(arguments=None):
    """Run the comparison; return the exit status."""
    options = parse(arguments)
    timing.limit_threads(options.threads)
    # Behind everything installed: a checkout built in place serves where pycnn is not installed.
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import report

    layers = chosen_layers(options)
    if options.list:
        report.print_layers(layers)
        return 0
    check_targets(options)
    baseline = report.read_baseline(options.baseline)
    contenders, absent = open_contenders(options)
    if options.plot and contenders[0].name != "pycnn":
        raise SystemExit(f"compare.py: --plot needs pycnn: {absent['pycnn']}")
    run = report.describe(options, contenders, absent)
    report.print_head(run)
    run["layers"] = [
        measure(layer, contenders, options) for layer in report.progress(layers, "layers")
    ]
    report.add_ratios(run)
    report.print_tables(run)
    if baseline is not None:
        report.print_baseline(run, baseline)
    if options.memory:
        import memory

        run["memory"] = {
            contender.name: memory.measure(contender.name, options.threads, options.precision)
            for contender in report.progress(contenders, "memory")
            if contender.applies(memory.largest_layer())
        }
        report.print_memory(run)
    if options.json:
        report.write_json(run, options.json)
    if options.plot:
        report.draw(run, options.plot)
    return report.exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
