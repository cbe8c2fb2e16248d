"""The CPU time per order of processes, and the text of a report."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.cpu import LOAD, CpuMeter, describe_cpu, system_us

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_the_time_of_a_child_counts_to_its_parent_whether_it_has_ended_or_not() -> None:
    meter = CpuMeter({"this": os.getpid()})
    meter.begin()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    program = f"{BURN}\nprint(flush=True)\ninput()"
    running = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.readline()
    meter.end(100)
    running.communicate(b"\n")
    assert meter.us_each["this"] > 1.8 * 0.3 * 1e6 / 100


def test_the_load_generator_is_shown_and_not_counted() -> None:
    us_each = {"API": 60.0, "Kafka": 25.4, LOAD: 40.0}
    assert system_us(us_each) == 85.4
    assert describe_cpu(us_each) == "85 µs (API 60, Kafka 25; load generator 40)"
