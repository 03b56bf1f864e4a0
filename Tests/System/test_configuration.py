"""Messages about an invalid configuration, and the precedence of sources."""

from __future__ import annotations

import subprocess

import pytest

from harness import HOPAGENT, HOPGATE, Agent, Gateway, Origin, free_port

GOOD = """\
https_listen: 127.0.0.1:{port}
http_listen: 127.0.0.1:{http}
ops_listen: 127.0.0.1:{ops}
admin_listen: 127.0.0.1:0
store:
  path: {folder}/data
routes:
  - host: app.test
    to: demo/web
"""
# The line number of additions.
END = GOOD.count("\n") + 1


def run(binary: str, *arguments: str, env: dict | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [binary, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=20,
        env={"PATH": "/usr/bin:/bin", **(env or {})},
    )


@pytest.fixture
def good(tmp_path) -> str:
    return GOOD.format(port=free_port(), http=free_port(), ops=free_port(), folder=tmp_path)


def write(tmp_path, text: str):
    path = tmp_path / "hopgate.yaml"
    path.write_text(text)
    return path


def test_a_good_configuration_is_good(tmp_path, good):
    done = run(HOPGATE, "config", "check", "--config", write(tmp_path, good))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "data").exists(), "a check writes nothing"


@pytest.mark.parametrize(
    "wrong, line, words",
    [
        ("htps_listen: 127.0.0.1:1\n", END, ["htps_listen", "https_listen"]),
        ("log_level: lowd\n", END, ["log_level", "lowd"]),
        ("dtls_listen: 127.0.0.1:99999\n", END, ["dtls_listen", "99999"]),
        ("dtls_listen: [1, 2]\n", END, ["dtls_listen"]),
        ("  - host: other.test\n    to: no-slash\n", END + 1, ["to", "no-slash"]),
        ("  - host: other.test\n    to: demo/web\n    timeout: soon\n", END + 2, ["timeout", "soon"]),
        ("  - host: other.test\n    to: demo/web\n    strip_prefix: perhaps\n", END + 2, ["strip_prefix", "perhaps"]),
        ("  - host: other.test\n    to: demo/web\n    tmeout: 3s\n", END + 2, ["tmeout", "timeout"]),
        ("  - to: demo/web\n", END, ["host"]),
        ("ops_listen: 127.0.0.1:1\n", END, ["ops_listen"]),
        ("  - host: 'un\n", END, []),
    ],
    ids=[
        "unknown-key",
        "bad-level",
        "bad-port",
        "wrong-type",
        "bad-route",
        "bad-duration",
        "bad-boolean",
        "unknown-key-inside",
        "missing-key",
        "doubled-key",
        "not-yaml",
    ],
)
@pytest.mark.parametrize("command", [("config", "check"), ("run",)], ids=["check", "run"])
def test_a_mistake_stops_the_start_with_file_line_key_and_remedy(tmp_path, good, command, wrong, line, words):
    path = write(tmp_path, good + wrong)
    done = run(HOPGATE, *command, "--config", path)
    output = done.stdout + done.stderr
    assert done.returncode == 2, f"exit code {done.returncode}: {output}"
    assert f"{path}:{line}" in output, output
    for word in words:
        assert word in output, output


def test_all_mistakes_are_reported_at_once(tmp_path, good):
    path = write(tmp_path, good + "one: 1\nlog_level: lowd\ntwo: 2\n")
    output = run(HOPGATE, "config", "check", "--config", path).stderr
    for line, key in ((END, "one"), (END + 1, "log_level"), (END + 2, "two")):
        assert f"{path}:{line}" in output and key in output, output


def test_a_file_that_is_missing_is_named(tmp_path):
    done = run(HOPGATE, "config", "check", "--config", tmp_path / "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr


def test_environment_variables_are_checked_too(tmp_path, good):
    path = write(tmp_path, good)
    done = run(HOPGATE, "config", "check", "--config", path, env={"HOPGATE_LOG_LEVEL": "lowd"})
    assert done.returncode == 2 and "HOPGATE_LOG_LEVEL" in done.stderr, done.stderr
    done = run(HOPGATE, "config", "check", "--config", path, env={"HOPGATE_HTPS_LISTEN": "127.0.0.1:1"})
    assert done.returncode == 2 and "HOPGATE_HTPS_LISTEN" in done.stderr, done.stderr


def test_the_environment_beats_the_file_and_a_flag_beats_both(bench):
    gateway = Gateway(bench)
    ports = [gateway.ops_port, free_port(), free_port()]
    env = {"HOPGATE_OPS_LISTEN": f"127.0.0.1:{ports[1]}"}
    gateway.start(env=env, wait=False)
    gateway.ops_port = ports[1]
    gateway.wait_ready()
    gateway.process.stop()
    gateway.start("--ops-listen", f"127.0.0.1:{ports[2]}", env=env, wait=False)
    gateway.ops_port = ports[2]
    gateway.wait_ready()


def test_a_port_that_is_taken_stops_the_start(bench):
    first = Gateway(bench).start()
    second = Gateway(bench, "second")
    second.settings["https_listen"] = first.settings["https_listen"]
    second.write_config()
    second.start(wait=False)
    assert second.process.wait(10) not in (0, None)
    assert str(first.https_port) in second.process.log()
    assert first.process.alive


AGENT = 'gateways: ["localhost:1"]\ntoken: hgt_abc.{secret}\nservices:\n  web: 127.0.0.1:8080\n'


@pytest.mark.parametrize(
    "wrong, line, key",
    [
        ("tokn: 1\n", 5, "tokn"),
        ("  api: nowhere\n", 5, "api"),
        ("max_requests: many\n", 5, "max_requests"),
        ("trust:\n  ca_file: /nowhere/ca.pem\n", 6, "ca_file"),
    ],
    ids=["unknown-key", "bad-target", "bad-number", "unreadable-ca"],
)
def test_the_agent_stops_for_a_mistake_too(tmp_path, wrong, line, key):
    path = tmp_path / "hopagent.yaml"
    path.write_text(AGENT.format(secret="A" * 43) + wrong)
    done = run(HOPAGENT, "run", "--config", path)
    output = done.stdout + done.stderr
    assert done.returncode == 2, f"exit code {done.returncode}: {output}"
    assert f"{path}:{line}" in output and key in output, output


def test_a_secret_that_cannot_be_read_stops_the_agent(tmp_path):
    path = tmp_path / "hopagent.yaml"
    path.write_text('gateways: ["localhost:1"]\nservices:\n  web: 127.0.0.1:8080\n')
    done = run(HOPAGENT, "run", "--config", path, env={"HOPAGENT_TOKEN_FILE": str(tmp_path / "missing")})
    assert done.returncode == 2
    assert "missing" in done.stderr and "HOPAGENT_TOKEN_FILE" in done.stderr, done.stderr


def test_a_token_comes_from_a_file(bench):
    gateway = Gateway(bench, routes=[{"host": "app.localhost", "to": "demo/web"}]).start()
    origin = Origin(bench)
    secret = bench.folder / "token"
    secret.write_text(gateway.create_token("demo") + "\n")
    secret.chmod(0o600)
    agent = Agent(bench, gateway, "unused", origin.port)
    agent.settings["token"] = None
    agent.write_config()
    agent.process = bench.start(
        agent.name, [HOPAGENT, "run", "--config", agent.config_path], env={"HOPAGENT_TOKEN_FILE": str(secret)}
    )
    agent.wait_ready()
    gateway.wait_serving()


def test_the_agent_needs_no_file(bench):
    gateway = Gateway(bench, routes=[{"host": "app.localhost", "to": "demo/web"}]).start()
    token = gateway.create_token("demo")
    origin = Origin(bench)
    bench.start(
        "agent",
        [
            HOPAGENT,
            "http",
            origin.port,
            "--gateway",
            f"localhost:{gateway.https_port}",
            "--token",
            token,
            "--service",
            "web",
            "--ca-file",
            gateway.ca_file,
        ],
    )
    gateway.wait_serving()


def test_version_and_help_are_printed():
    for binary in (HOPGATE, HOPAGENT):
        for arguments in (["version"], ["--help"]):
            done = run(binary, *arguments)
            assert done.returncode == 0 and done.stdout.strip(), (binary, arguments, done)
