"""Runs the command line in a child that dies, unwarned, at a place of its code."""

import signal
import subprocess
import sys


def killed(words, place, times=1, imports=""):
    """Run until the child comes to a place.

    Args:
        words: Of the command line, the task first.
        place: Source of a pair: what owns a function, and its name.
        times: At which of its calls the child dies.
        imports: Lines that make the owner known.
    """
    script = f"""
import os, signal, sys
{imports}
from benchmarks.__main__ import main
calls = 0
def die(*args, **kwargs):
    global calls
    calls += 1
    if calls == {times}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
owner, name = {place}
original = getattr(owner, name)
setattr(owner, name, die)
sys.exit(main(sys.argv[1:]))
"""
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
