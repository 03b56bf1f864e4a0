"""Messages about an invalid configuration, and the precedence of sources."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from acme_authority import IssuingAuthority
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


def test_a_wrong_target_of_the_http_command_is_named():
    hint = "is not on this host's loopback address"
    for words, what in (
        (["example.com:80"], f'TARGET: "example.com:80" {hint}'),
        (["example.com:80"], "--target-hosts example.com."),
        (["example.com:x"], 'TARGET: port "x" is not a number'),
        (["3000,4000"], 'TARGET: "3000,4000" is not one address.'),
        (["3000", "--service", "a/b"], '--service: services.a/b: "a/b" is not a name'),
    ):
        done = run(HOPAGENT, "http", *words, "--gateway", "gateway.test", "--token", "hgt_x.y")
        assert done.returncode == 2 and what in done.stderr, done.stderr


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


# The contents of a file that a setting names, and words of the message.
BAD_SECRETS = {
    "damaged-cluster-key": ("cluster_key_file", "short\n", "line 1 has 5 characters"),
    "empty-cluster-key": ("cluster_key_file", "", "holds no key"),
    "other-cluster-key": ("cluster_key_file", "2" * 64, "has another key than the mounted one"),
    "short-admin-token": ("admin_token_file", "short\n", "at least 32"),
}


@pytest.mark.parametrize("name", BAD_SECRETS)
def test_a_check_refuses_the_secret_that_a_start_refuses(tmp_path, good, name: str):
    key, text, words = BAD_SECRETS[name]
    (tmp_path / "key").write_text("1" * 64 + "\n")
    (tmp_path / "secret").write_text(text)
    path = write(tmp_path, good + f"cluster_key_file: {tmp_path}/key\n")
    assert run(HOPGATE, "token", "create", "demo", "--config", path).returncode == 0
    before = sorted(tmp_path.rglob("*"))
    assert run(HOPGATE, "config", "check", "--config", path).returncode == 0
    settings = {"cluster_key_file": f"{tmp_path}/key", key: f"{tmp_path}/secret"}
    write(tmp_path, good + "".join(f"{name}: {value}\n" for name, value in settings.items()))
    for command in (["config", "check"], ["run"]):
        done = run(HOPGATE, *command, "--config", path)
        assert done.returncode in (1, 2) and words in done.stderr and not done.stdout, (command, done)
        assert text.strip() == "" or text.strip() not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before, "neither writes a file"


def damage_cluster(store: Path) -> None:
    (store / "cluster.json" / "2").write_text("{")
    (store / "cluster.json" / "2").chmod(0o600)


# Changes to the folder of a store that was founded with a mounted key or none, and words of the message.
BAD_STORES = {
    "lost-key": ("", lambda store: next((store / "keys").iterdir()).unlink(), "is not there"),
    "no-mounted-key": ("cluster_key_file: {}/key\n", lambda store: None, "the key of cluster"),
    "damaged-cluster": ("", damage_cluster, "/cluster.json/2"),
    "lost-cluster": ("", lambda store: shutil.rmtree(store / "cluster.json"), "is missing although the store has"),
    "open-folder": ("", lambda store: store.chmod(0o755), "v2: is open to other users (mode 755); fix it with"),
    "old-format": ("", lambda store: store.rename(store.parent / "v1"), "has a format that this release does not read"),
    "no-certificate": (None, lambda store: None, "there is no certificate"),
}


@pytest.mark.parametrize("name", BAD_STORES)
def test_a_check_refuses_the_store_that_a_start_refuses(tmp_path, good, name: str):
    key, harm, words = BAD_STORES[name]
    (tmp_path / "key").write_text("1" * 64 + "\n")
    if key is None:
        path = write(tmp_path, good + "development_ca: off\n")
    else:
        path = write(tmp_path, good + key.format(tmp_path))
        assert run(HOPGATE, "token", "create", "demo", "--config", path).returncode == 0
        assert run(HOPGATE, "config", "check", "--config", path).returncode == 0
        write(tmp_path, good)
    harm(tmp_path / "data" / "v2")
    before = sorted(tmp_path.rglob("*"))
    for command in (["config", "check"], ["run"]):
        done = run(HOPGATE, *command, "--config", path)
        assert done.returncode in (1, 2) and words in done.stderr and not done.stdout, (command, done)
    assert sorted(tmp_path.rglob("*")) == before, "neither writes a file"


def test_a_check_loads_certificates_and_the_cas_of_an_agent(tmp_path, good):
    certificate, _ = IssuingAuthority(tmp_path / "one").server("app.test")
    _, other_key = IssuingAuthority(tmp_path / "two").server("app.test")
    path = write(tmp_path, good + f"certificates: [{{cert: {certificate}, key: {other_key}}}]\n")
    done = run(HOPGATE, "config", "check", "--config", path)
    assert done.returncode == 2 and "the key does not belong to the certificate" in done.stderr, done
    (tmp_path / "ca.pem").write_text("no certificate\n")
    words = ["--gateway", "gw.test", "--token", "hgt_id1.x", "--service", "web=1", "--ca-file", tmp_path / "ca.pem"]
    for command in (["config", "check"], ["run", "--ops-listen", "off"]):
        done = run(HOPAGENT, *command, *words)
        assert done.returncode in (1, 2) and "ca.pem" in done.stderr and not done.stdout, (command, done)


def test_a_health_check_finds_the_address_as_the_program_does(bench, tmp_path):
    """It needs no other setting: neither the agent's token nor the files that the gateway has read at its start."""
    gateway = Gateway(bench, admin_token_file=str(bench.folder / "admin-token"))
    (bench.folder / "admin-token").write_text("t" * 40)
    agent = Agent(bench, gateway, gateway.create_token("demo"), Origin(bench).port)
    gateway.start()
    agent.start()
    (bench.folder / "admin-token").unlink()
    for program, path, port, prefix in (
        (HOPGATE, gateway.config_path, gateway.ops_port, "HOPGATE"),
        (HOPAGENT, agent.config_path, agent.ops_port, "HOPAGENT"),
    ):
        address = f"127.0.0.1:{port}"
        (tmp_path / "address").write_text(address + "\n")
        for arguments, env in (
            (["--config", path], {}),
            ([], {f"{prefix}_CONFIG": str(path)}),
            ([], {f"{prefix}_OPS_LISTEN": address}),
            ([], {f"{prefix}_OPS_LISTEN_FILE": str(tmp_path / "address")}),
            (["--ops-listen", address, "--config", path], {f"{prefix}_OPS_LISTEN": "127.0.0.1:1"}),
        ):
            done = run(program, "healthcheck", *arguments, env=env)
            assert done.returncode == 0 and '"ready":true' in done.stdout, (arguments, env, done)
        done = run(program, "healthcheck", "--config", path, env={f"{prefix}_OPS_LISTEN": "127.0.0.1:1"})
        assert done.returncode == 1 and "http://127.0.0.1:1/readyz: Connection refused" in done.stderr, done
        done = run(program, "healthcheck", env={f"{prefix}_OPS_LISTEN": "nowhere"})
        assert done.returncode == 2 and f"{prefix}_OPS_LISTEN" in done.stderr, done
    done = run(HOPAGENT, "healthcheck", "--ops-listen", "off")
    assert done.returncode == 1 and "ops_listen is off" in done.stderr, done
