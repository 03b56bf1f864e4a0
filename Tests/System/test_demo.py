"""`make demo` is the first thing that a user does."""

from __future__ import annotations

import os
import subprocess

from harness import ROOT


def test_the_demo_prints_a_curl_line_that_works():
    done = subprocess.run(
        ["make", "demo"], cwd=ROOT, env={**os.environ, "DEMO_ONESHOT": "1"}, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "curl" in done.stdout
