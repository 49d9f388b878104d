"""Workers end with the process that they work for."""

import os
import signal
import subprocess
import sys
import time

from benchmarks.runs.workers import done_by_workers

SCRIPT = """
import time
from benchmarks.runs.workers import done_by_workers

if __name__ == "__main__":
    for _ in done_by_workers(print, [("begun",), ("begun",)], 2):
        pass
    list(done_by_workers(time.sleep, [(60,), (60,)], 2))
"""


def workers_of(pid):
    """List the processes that a process has started."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def runs(pid):
    """Whether a process is there and not only waits to be counted as gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_job_is_done_once():
    jobs = [(number,) for number in range(5)]
    assert sorted(done_by_workers(abs, jobs, 2)) == [0, 1, 2, 3, 4]
    assert list(done_by_workers(abs, jobs, 1)) == [0, 1, 2, 3, 4]


def test_workers_of_a_killed_process_end(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    try:
        # Two workers and the process that keeps track of what they share.
        wait_until(lambda: len(workers_of(parent.pid)) >= 3)
        children = workers_of(parent.pid)
        time.sleep(1)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not any(map(runs, children)))
