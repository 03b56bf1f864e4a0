"""Fixtures: a scratch folder with its processes for each test (`bench`), and a running stack (`stack`) for the tests of
a module that leave it unchanged."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from harness import HOPAGENT, HOPGATE, Bench, Stack

_ids = itertools.count()
_benches: list[Bench] = []


def pytest_sessionstart(session):
    missing = [path for path in (HOPGATE, HOPAGENT) if not Path(path).exists()]
    if missing and not session.config.option.collectonly:
        pytest.exit(f"not built: {', '.join(missing)} (swift build -c release)", returncode=2)


@pytest.fixture(scope="session")
def tools(tmp_path_factory) -> Path:
    """The folder of the compiled helpers."""
    return tmp_path_factory.mktemp("tools")


def _bench(folder: Path, tools: Path):
    bench = Bench(folder, tools)
    _benches.append(bench)
    try:
        yield bench
    finally:
        bench.close()
        _benches.remove(bench)


@pytest.fixture
def bench(tmp_path, tools):
    yield from _bench(tmp_path, tools)


@pytest.fixture(scope="module")
def module_bench(tmp_path_factory, tools, request):
    yield from _bench(tmp_path_factory.mktemp(request.module.__name__), tools)


@pytest.fixture
def test_id() -> str:
    """An id for X-Test-Id, under which the origin records a request."""
    return f"test-{next(_ids)}"


@pytest.fixture(scope="module")
def shared_stack(module_bench) -> Stack:
    return Stack(module_bench)


@pytest.fixture
def stack(shared_stack) -> Stack:
    """The module's running stack; a test must leave both processes running."""
    yield shared_stack
    for process in (shared_stack.gateway.process, shared_stack.agent.process):
        assert process.alive, f"{process.name} died with {process.child.returncode}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    item.log_marks = {name: size for bench in _benches for name, size in bench.marks().items()}
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the log of every process to the report of a failed test."""
    report = (yield).get_result()
    if report.failed:
        for bench in _benches:
            for name, text in bench.logs(item.log_marks):
                report.sections.append((f"log of {name}", text))
