"""Python processes for the tests that a crash, a hang or the environment must not reach."""

import os
import subprocess
import sys
from pathlib import Path

import pycnn

TESTS = Path(__file__).parent


def run(*args, timeout=120, **environment):
    """Run a Python process that finds the same pycnn and these tests; return it when it ended.

    The environment variables of this process are handed on, changed by `environment`; None
    removes one.
    """
    env = dict(os.environ)
    paths = [str(Path(pycnn.__file__).parents[1]), str(TESTS), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    env["PYTHONFAULTHANDLER"] = "1"
    for name, value in environment.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    return subprocess.run(
        [sys.executable, *args],
        env=env,
        cwd=TESTS,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


def run_well(*args, **kwargs):
    """Run a process that must succeed; return what it printed."""
    child = run(*args, **kwargs)
    assert child.returncode == 0, f"exit {child.returncode}\n{child.stdout}\n{child.stderr[-4000:]}"
    # What a destructor, or a function without exceptions, could only print.
    assert "Exception ignored" not in child.stderr, child.stderr[-4000:]
    return child.stdout
