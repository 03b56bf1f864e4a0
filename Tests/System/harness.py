"""Processes under test: start, observe, stop. Every process of a test is started by `Bench`, which gives each one a log
file, and ends them and no others."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Iterable, Iterator, Optional, Self, TypeVar, Union

from client import Connection, Load, trusting
from http1 import Fields, Response

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOPGATE = os.environ.get("HOPGATE_BIN", str(ROOT / ".build/release/hopgate"))
HOPAGENT = os.environ.get("HOPAGENT_BIN", str(ROOT / ".build/release/hopagent"))

# Every HOPGATE_… and HOPAGENT_… variable is a setting of the programs, and an unknown one an error. They are removed
# from the environment, including those of this file.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("HOPGATE_", "HOPAGENT_"))}

# Whether the tests with the mark `long` run in their long form.
IS_LONG = "HOPGATE_LONG" in os.environ

T = TypeVar("T")


def eventually(check: Callable[[], T], timeout: float, what: str) -> T:
    """Polls until `check` returns a true value, and returns it."""
    deadline = time.monotonic() + timeout
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.01)


def during(seconds: float) -> Iterator[None]:
    """Iterates for so long, to check again and again what must hold all the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.1)


class Background:
    """Work in its own thread during a `with` block: `run` continues until `stopping` is set. An error in the thread
    fails the block."""

    def __init__(self):
        self.stopping = threading.Event()
        self._error: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._guarded)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind, *_) -> None:
        self.stopping.set()
        self._thread.join()
        if self._error and kind is None:
            raise self._error

    def _guarded(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 — raised again by the block
            self._error = error

    def run(self) -> None:
        raise NotImplementedError


_given_ports: set[int] = set()


def free_port() -> int:
    """A port that is free for TCP and UDP, outside the range that outgoing connections use, so that it stays free and a
    restarted process finds it again. No port is returned twice, since its user may not listen yet."""
    while True:
        port = random.randint(15_000, 29_999)
        if port in _given_ports:
            continue
        _given_ports.add(port)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("0.0.0.0", port))
            return port
        except OSError:
            continue


def compiled(name: str, folder: Path, source_folder: Path = HERE, flags: Iterable[str] = ()) -> Path:
    """Compiles one of the C helpers."""
    binary = folder / name
    if not binary.exists():
        source = str(source_folder / f"{name}.c")
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(binary), source, *flags], check=True)
    return binary


def yaml(value, indent: int = 0) -> str:
    """Block style YAML of dictionaries, lists and scalars, as if hand-written."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for key, inner in value.items():
            if isinstance(inner, (dict, list)) and inner:
                lines.append(f"{pad}{key}:\n{yaml(inner, indent + 1)}")
            else:
                lines.append(f"{pad}{key}: {json.dumps(inner)}")
        return "\n".join(lines)
    if isinstance(value, list):
        lines = []
        for inner in value:
            text = yaml(inner, indent + 1) if isinstance(inner, dict) else pad + "  " + json.dumps(inner)
            lines.append(f"{pad}- {text[2 * indent + 2 :]}")
        return "\n".join(lines)
    return pad + json.dumps(value)


class Process:
    """One process with its log. Standard output and error go to the same file."""

    def __init__(self, name: str, argv: list[str], folder: Path, env: Optional[dict] = None, pipes: bool = False):
        self.name, self.argv = name, [str(a) for a in argv]
        self.log_path = folder / f"{name}.log"
        self._log = open(self.log_path, "ab")
        self.log_start = self.log_path.stat().st_size
        self.started_at = time.monotonic()
        self.child = subprocess.Popen(
            self.argv,
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else self._log,
            stderr=self._log,
            cwd=folder,
            env={**ENVIRONMENT, **(env or {})},
            text=pipes or None,
            bufsize=1 if pipes else -1,
        )

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def alive(self) -> bool:
        return self.child.poll() is None

    @property
    def is_stopped(self) -> bool:
        """Whether the process is stopped, as by SIGSTOP."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False  # it has ended

    def signal(self, number: int) -> None:
        if self.alive:
            self.child.send_signal(number)

    def suspend(self) -> None:
        """Sends SIGSTOP and waits until the process is stopped; SIGCONT lets it continue."""
        self.signal(signal.SIGSTOP)
        eventually(lambda: self.is_stopped, 5, f"{self.name} is stopped")

    def wait(self, timeout: float = 10) -> int:
        return self.child.wait(timeout)

    def kill(self) -> None:
        """Sends SIGKILL and waits for the end."""
        self.signal(signal.SIGKILL)
        self.child.wait(10)

    def stop(self, timeout: float = 10) -> int:
        """Sends SIGTERM, and SIGKILL after the timeout."""
        self.signal(signal.SIGTERM)
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    # -- log

    def mark(self) -> int:
        """The log's present length, for reading only later lines."""
        return self.log_path.stat().st_size

    def log(self, since: Optional[int] = None) -> str:
        with open(self.log_path, "rb") as file:
            file.seek(self.log_start if since is None else since)
            return file.read().decode(errors="replace")

    def log_objects(self, since: Optional[int] = None) -> list[dict]:
        """The JSON lines of the log."""
        objects = []
        for line in self.log(since).splitlines():
            if line.startswith("{"):
                objects.append(json.loads(line))
        return objects

    def wait_log(self, pattern: str, timeout: float = 10, since: Optional[int] = None) -> str:
        """The first log line that matches the regular expression."""

        def match() -> Optional[str]:
            return next((l for l in self.log(since).splitlines() if re.search(pattern, l, re.IGNORECASE)), None)

        return eventually(match, timeout, f"a line matching /{pattern}/ in the log of {self.name}")

    # -- resources

    def _status(self, key: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
        raise KeyError(key)

    @property
    def resident(self) -> int:
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """The largest resident size since `reset_peak`."""
        return self._status("VmHWM")

    def reset_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))


class Bench:
    """A scratch folder and every process started in it."""

    def __init__(self, folder: Path, tools: Path, launcher: Iterable[str] = ()):
        self.folder, self.tools = folder, tools
        self.launcher = list(launcher)  # words before every command, to start it in another network namespace
        self.processes: list[Process] = []
        self.volumes: list = []  # those of volumes.py: healed before the processes end, undone after

    def start(self, name: str, argv: Iterable, env: Optional[dict] = None, pipes: bool = False) -> Process:
        process = Process(name, [*self.launcher, *argv], self.folder, env, pipes)
        self.processes.append(process)
        return process

    def subfolder(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def close(self) -> None:
        try:
            for volume in self.volumes:
                volume.heal()
            self._end_processes()
        finally:
            for volume in reversed(self.volumes):
                volume.undo()

    def _end_processes(self) -> None:
        for process in reversed(self.processes):
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + 3
        for process in reversed(self.processes):
            try:
                process.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()

    def logs(self, marks: dict[str, int]) -> Iterable[tuple[str, str]]:
        """What each log gained since `marks`."""
        for path in sorted(self.folder.glob("*.log")):
            text = path.read_bytes()[marks.get(str(path), 0) :].decode(errors="replace")
            if text:
                yield path.name, text if len(text) < 8000 else text[:3000] + "\n […]\n" + text[-5000:]

    def marks(self) -> dict[str, int]:
        return {str(path): path.stat().st_size for path in self.folder.glob("*.log")}


class Origin:
    """The origin server of origin.py."""

    def __init__(self, bench: Bench, name: str = "origin", port: int = 0):
        self.bench, self.name, self.port = bench, name, port
        self.process: Optional[Process] = None
        self.start()

    def start(self) -> None:
        self.process = self.bench.start(self.name, [sys.executable, "-B", HERE / "origin.py", "--port", str(self.port)])
        line = self.process.wait_log(r'^\{"port"', 10)
        self.port = json.loads(line)["port"]

    def stop(self) -> None:
        self.process.kill()

    def _ask(self, target: str) -> dict:
        with Connection(("127.0.0.1", self.port), "origin.test", None) as connection:
            return json.loads(connection.request("GET", target).body)

    def stats(self) -> dict:
        return self._ask("/_stats")

    def marks(self, request_id: str) -> dict:
        """The traces of the requests that carried this X-Test-Id."""
        return self._ask(f"/_stats?id={request_id}")

    def wait_mark(self, request_id: str, what: str, timeout: float = 5) -> float:
        """The moment (monotonic clock) of the mark, waiting for it."""
        return eventually(lambda: self.marks(request_id).get(what), timeout, f"{what} of {request_id} at the origin")


class Relay:
    """The lossy network of relay.c, between an agent and a gateway's tunnel port."""

    def __init__(self, bench: Bench, target_port: int, name: str = "relay", seed: int = 1):
        binary = compiled("relay", bench.tools)
        self.process = bench.start(name, [binary, "0", str(target_port), str(seed)], pipes=True)
        self.port = int(self.process.child.stdout.readline().split()[1])

    def send_command(self, command: str) -> str:
        """Sends one command and returns its answer."""
        self.process.child.stdin.write(command + "\n")
        self.process.child.stdin.flush()
        return self.process.child.stdout.readline().strip()

    def stats(self) -> dict[str, int]:
        words = self.send_command("stats").split()
        return {name: int(count) for name, count in zip(words[::2], words[1::2])}


class Gateway:
    """A `hopgate` with its own configuration, data folder and ports, which survive a restart."""

    def __init__(self, bench: Bench, name: str = "gateway", routes: Optional[list] = None, **settings):
        self.bench, self.name = bench, name
        self.folder = bench.subfolder(name)
        self.data = Path(settings.get("store", {}).get("path", self.folder / "data"))
        self.http_port, self.https_port = free_port(), free_port()
        self.ops_port, self.admin_port = free_port(), free_port()
        self.config_path = self.folder / "hopgate.yaml"
        self.settings = {
            "http_listen": f"127.0.0.1:{self.http_port}",
            "https_listen": f"127.0.0.1:{self.https_port}",
            "mesh_listen": "127.0.0.1:0",
            "ops_listen": f"127.0.0.1:{self.ops_port}",
            "admin_listen": f"127.0.0.1:{self.admin_port}",
            "store": {"path": str(self.data)},
            "log_format": "json",
            "routes": routes if routes is not None else [],
            **settings,
        }
        self.write_config()
        self.process: Optional[Process] = None
        self.launcher: list[str] = []  # words before the command, such as a profiler's

    def write_config(self) -> None:
        self.config_path.write_text(yaml({k: v for k, v in self.settings.items() if v is not None}) + "\n")

    def start(self, *arguments: str, env: Optional[dict] = None, wait: bool = True, timeout: float = 10) -> Gateway:
        command = [*self.launcher, HOPGATE, "run", "--config", self.config_path, *arguments]
        self.process = self.bench.start(self.name, command, env)
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout: float = 10) -> None:
        def ready() -> bool:
            assert self.process.alive, (
                f"hopgate ended with {self.process.child.returncode}:\n{self.process.log()[-3000:]}"
            )
            return self.ops("/readyz", quiet=True) == 200

        eventually(ready, timeout, "hopgate is ready")

    # -- command line

    def cli(self, *arguments: str, check: bool = True, timeout: float = 20) -> subprocess.CompletedProcess:
        """Runs a command with this gateway's configuration."""
        command = [HOPGATE, *arguments, "--config", str(self.config_path)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, cwd=self.folder, env=ENVIRONMENT
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"hopgate {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def begin_cli(self, *arguments: str, name: str = "", pipes: bool = False) -> Process:
        """Starts a command without waiting for its end."""
        name = name or f"{self.name}-cli-{len(self.bench.processes)}"
        return self.bench.start(name, [HOPGATE, *arguments, "--config", self.config_path], pipes=pipes)

    def create_token(self, name: str, services: Iterable[str] = ("web",), hosts: Iterable[str] = ()) -> str:
        arguments = [part for s in services for part in ("--service", s)] + [
            part for h in hosts for part in ("--host", h)
        ]
        done = self.cli("token", "create", name, *arguments)
        return re.search(r"hgt_[A-Za-z0-9]+\.[A-Za-z0-9_-]+", done.stdout)[0]

    def revoke_token(self, token: str) -> None:
        self.cli("token", "revoke", token_id(token))

    def token(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """`hopgate token COMMAND` with this gateway's configuration."""
        return self.cli("token", command, *arguments, check=check)

    # -- ports

    @property
    def ca_file(self) -> str:
        """A copy of the development CA's root, made once, since a later test step may break the store."""
        copy = self.folder / "root.pem"
        if not copy.exists():
            copy.write_text(self.cli("ca", "--pem").stdout)
        return str(copy)

    def connect(self, host: str = "app.localhost", **options) -> Connection:
        return Connection(("127.0.0.1", self.https_port), host, trusting(self.ca_file), **options)

    def load(self, host: str = "app.localhost") -> Load:
        return Load(("127.0.0.1", self.https_port), host, trusting(self.ca_file))

    def request(
        self, method: str, target: str, fields: Fields = (), body: bytes = b"", host: str = "app.localhost", **options
    ) -> Response:
        """Sends one request on a new connection."""
        with self.connect(host, **options) as connection:
            return connection.request(method, target, fields, body)

    def ops(self, path: str, quiet: bool = False) -> Union[int, Response]:
        return ask_ops(self.ops_port, path, quiet)

    def metrics(self) -> dict[str, float]:
        return parse_metrics(self.ops("/metrics").text)

    def ask_admin(self, path: str, token: str, scheme: str = "Bearer") -> Response:
        """Sends a GET to the admin port; without a token if it is empty."""
        fields = [("Authorization", f"{scheme} {token}")] if token else []
        with Connection(("127.0.0.1", self.admin_port), "localhost", None, timeout=5) as connection:
            return connection.request("GET", path, fields)

    def wait_serving(self, target: str = "/bytes/10", timeout: float = 10, host: str = "app.localhost") -> float:
        """Waits for a 200 through the tunnel; returns the time."""

        def served() -> bool:
            try:
                return self.request("GET", target, host=host, timeout=timeout).status == 200
            except OSError:
                return False

        eventually(served, timeout, f"{target} is served through the tunnel")
        return time.monotonic()


class Agent:
    """A `hopagent` for one gateway (or several), restartable."""

    def __init__(
        self,
        bench: Bench,
        gateway: Gateway,
        token: str,
        origin_port: int,
        name: str = "agent",
        service: str = "web",
        port: Optional[int] = None,
        **settings,
    ):
        self.bench, self.name = bench, name
        self.folder = bench.subfolder(name)
        self.ops_port = free_port()
        self.config_path = self.folder / "hopagent.yaml"
        self.settings = {
            "gateways": [f"localhost:{port or gateway.https_port}"],
            "token": token,
            "trust": settings.pop("trust") if "trust" in settings else {"ca_file": gateway.ca_file},
            "ops_listen": f"127.0.0.1:{self.ops_port}",
            "log_format": "json",
            "services": {service: f"127.0.0.1:{origin_port}"},
            **settings,
        }
        self.write_config()
        self.process: Optional[Process] = None
        self.launcher: list[str] = []

    def write_config(self) -> None:
        self.config_path.write_text(yaml({k: v for k, v in self.settings.items() if v is not None}) + "\n")

    def start(self, wait: bool = True, timeout: float = 10) -> Agent:
        self.process = self.bench.start(self.name, [*self.launcher, HOPAGENT, "run", "--config", self.config_path])
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout: float = 10) -> float:
        def ready() -> bool:
            assert self.process.alive, (
                f"hopagent ended with {self.process.child.returncode}:\n{self.process.log()[-3000:]}"
            )
            return self.ops("/readyz", quiet=True) == 200

        eventually(ready, timeout, "the agent has a tunnel")
        return time.monotonic()

    def ops(self, path: str, quiet: bool = False) -> Union[int, Response]:
        return ask_ops(self.ops_port, path, quiet)

    def metrics(self) -> dict[str, float]:
        return parse_metrics(self.ops("/metrics").text)


def token_id(token: str) -> str:
    """The public part of hgt_ID.SECRET."""
    return token.removeprefix("hgt_").partition(".")[0]


def ask_ops(port: int, path: str, quiet: bool) -> Union[int, Response]:
    """Sends a GET to an ops port. quiet: returns only the status, 0 if the connection is refused."""
    try:
        with Connection(("127.0.0.1", port), "localhost", None, timeout=5) as connection:
            response = connection.request("GET", path)
            return response.status if quiet else response
    except OSError:
        if quiet:
            return 0
        raise


def parse_metrics(text: str) -> dict[str, float]:
    """The samples of a scrape as name{labels} → value."""
    lines = (l.rsplit(" ", 1) for l in text.splitlines() if l and not l.startswith("#"))
    return {name: float(value) for name, value in lines}


class Stack:
    """One origin, one gateway, one agent, connected. The host app.localhost leads to the agent's service `web`."""

    def __init__(
        self, bench: Bench, agent: Optional[dict] = None, lossy: bool = False, agent_name: str = "demo", **gateway
    ):
        self.bench = bench
        self.origin = Origin(bench)
        routes = gateway.pop("routes", [{"host": "app.localhost", "to": f"{agent_name}/web"}])
        self.gateway = Gateway(bench, routes=routes, **gateway)
        self.token = self.gateway.create_token(agent_name)
        self.gateway.start()
        self.relay = Relay(bench, self.gateway.https_port) if lossy else None
        port = self.relay.port if self.relay else None
        self.agent = Agent(bench, self.gateway, self.token, self.origin.port, port=port, **(agent or {})).start()
        self.gateway.wait_serving()

    def request(self, method: str, target: str, fields: Fields = (), body: bytes = b"", **options) -> Response:
        return self.gateway.request(method, target, fields, body, **options)

    def connect(self, host: str = "app.localhost", **options) -> Connection:
        return self.gateway.connect(host, **options)
