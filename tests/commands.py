"""The command line as processes, for the tests of its commands."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pycnn


def listing():
    return sorted(str(path) for path in Path().rglob("*"))


def environment(**more):
    # The pycnn under test, whether it is installed or built in place.
    return os.environ | {"PYTHONPATH": str(Path(pycnn.__file__).parents[1])} | more


def heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments, env=None, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    # What a shell starts in the background would ignore Ctrl-C, and hand that on.
    options = {"preexec_fn": heed_interrupts} | options
    command = [sys.executable, "-m", "pycnn", *map(str, arguments)]
    return subprocess.Popen(command, env=env or environment(), **options)


def run(*arguments, **options):
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run_without(modules, *arguments):
    """Run a command where some modules cannot be imported."""
    blocked = dict.fromkeys(modules)
    program = f"import sys; sys.modules.update({blocked}); from pycnn.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", program + f"sys.exit(main({list(map(str, arguments))}))"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def run_on_a_full_disk(n_bytes, *arguments, **options):
    """Run a command that fails to write more than `n_bytes` to a file.

    Without bytecode: Python keeps what it could write of a module's, for later imports to fail on.
    """

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))

    env = environment(PYTHONDONTWRITEBYTECODE="1")
    return run(*arguments, env=env, preexec_fn=limit_files, **options)


def interrupt_after(line, *arguments, wait=0.0):
    """Send SIGINT once a line starting with `line` was printed.

    Again after a while where nothing came of it: Python drops an interrupt that arrives in a
    callback, as imports have them.
    """
    with start(*arguments) as process:
        for printed in process.stdout:
            if printed.startswith(line):
                break
        with pytest.raises(subprocess.TimeoutExpired):  # it is still at work
            process.wait(timeout=wait)
        for _ in range(10):
            process.send_signal(signal.SIGINT)
            try:
                out, err = process.communicate(timeout=10)
                return process.returncode, out, err
            except subprocess.TimeoutExpired:
                continue
        process.kill()
        raise TimeoutError(f"{arguments} went on after ten interrupts")
