"""Operations on the store and the cluster: check, back up, restore, rotate, inspect, drain."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Callable

import pytest

from acme_authority import IssuingAuthority
from harness import ENVIRONMENT, HOPAGENT, HOPGATE, Agent, Gateway, Origin, Stack, eventually, free_port, token_id


def answer(gateway: Gateway, *words: str) -> dict:
    return json.loads(gateway.cli(*words, "--json").stdout)


def hopgate(*words, **options) -> subprocess.CompletedProcess:
    """Runs a command that has no gateway, or with other outputs or another environment."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT, **options}
    return subprocess.run([HOPGATE, *words], errors="replace", timeout=60, **options)


def keys_of(gateway: Gateway) -> list[str]:
    return answer(gateway, "status")["cluster"]["keys"]


def sharing(bench, name: str, other: Gateway, **settings) -> Gateway:
    """A second replica on the same store."""
    return Gateway(bench, name, routes=other.settings["routes"], store=other.settings["store"], **settings)


# -- store check


def check(gateway: Gateway) -> tuple[int, dict]:
    done = gateway.cli("store", "check", "--json", check=False)
    return done.returncode, json.loads(done.stdout)


def test_a_good_store_is_usable_and_its_features_are_listed(bench):
    gateway = Gateway(bench).start()
    code, report = check(gateway)
    assert code == 0 and report["usable"] and not report["problems"], report
    assert all(step["works"] for step in report["abilities"]) and len(report["abilities"]) >= 10
    assert {time["operation"] for time in report["times"]} >= {"create", "rename", "link", "fsync", "list"}
    assert all(0 < time["min_ms"] <= time["median_ms"] <= time["max_ms"] for time in report["times"])
    assert report["cluster"]["id"] == answer(gateway, "status")["cluster"]["id"]
    assert report["cluster"]["key_on_volume"]
    assert [replica["state"] for replica in report["replicas"]] == ["active"]
    assert "read access to the volume is access to the cluster" in gateway.cli("store", "check").stdout
    gateway.process.kill()
    assert check(gateway)[1]["replicas"][0]["state"] == "dead"


def test_a_check_of_an_empty_folder_founds_nothing(bench):
    gateway = Gateway(bench)
    code, report = check(gateway)
    assert code == 0 and not gateway.data.exists(), report
    assert report["remarks"] == [f"{gateway.data}: does not exist yet; the first gateway that starts creates it"]
    assert gateway.cli("config", "check").returncode == 0 and not gateway.data.exists()
    gateway.data.mkdir(mode=0o700)
    code, report = check(gateway)
    assert code == 0 and report["cluster"] is None and any("no cluster yet" in line for line in report["remarks"])
    assert list(gateway.data.iterdir()) == []
    for words in (["status"], ["drain"], ["cluster", "rotate-key"], ["backup", "x.tar"]):
        done = gateway.cli(*words, check=False)
        assert done.returncode == 1 and "there is no cluster" in done.stderr, done.stderr
    assert list(gateway.data.iterdir()) == []


def broken_key(store: Path) -> None:
    next((store / "keys").iterdir()).unlink()


def newer_format(store: Path) -> None:
    path = store / "cluster.json" / "2"
    path.write_text(f"HGV2 value 0 {'0' * 32}\n" + '{"format":2,"cluster":"x","keys":["y"]}')
    path.chmod(0o600)


def open_mode(store: Path) -> None:
    (store / "agents").chmod(0o755)


def link(store: Path) -> None:
    (store / "agents").rename(store.with_name("away"))
    (store / "agents").symlink_to(store.with_name("away"))


def no_folder(store: Path) -> None:
    store.rename(store.with_name("away"))
    store.write_text("")


def edited(store: Path) -> None:
    path = store / "cluster.json" / "1"
    path.write_text(path.read_text().replace('"format":1', '"format":1,"x":1'))


@pytest.mark.parametrize(
    "harm, words",
    [
        (broken_key, "the key of cluster"),
        (newer_format, "has format 2; this release reads 1"),
        (open_mode, "open to other users"),
        (link, "symbolic link"),
        (no_folder, "not a folder"),
        (edited, "wrong MAC"),
    ],
)
def test_a_broken_store_has_a_clear_line(bench, harm, words):
    gateway = Gateway(bench).start()
    gateway.process.stop()
    harm(gateway.data / "v2")
    code, report = check(gateway)
    assert code == 1 and any(words in line for line in report["problems"]), report["problems"]
    done = gateway.cli("store", "check", check=False)
    assert done.returncode == 1 and words in done.stdout and done.stdout.strip().endswith("cannot be used as it is.")


def test_commands_of_the_admin_port_name_a_key_that_is_lost_or_unreadable(bench):
    gateway = Gateway(bench)
    gateway.create_token("demo")
    token = bench.folder / "admin-token"
    token.write_text("t" * 40)
    mounted = bench.folder / "mounted-key"
    mounted.write_text("1" * 64)
    path = next((gateway.data / "v2" / "keys").iterdir())
    path.rename(bench.folder / "key")

    def assert_named(gateway: Gateway, *words: str) -> None:
        for command in (["status"], ["cluster", "status"], ["drain"]):
            done = gateway.cli(*command, check=False)
            assert done.returncode == 1 and all(word in done.stderr for word in words), done.stderr
            assert "there is no cluster" not in done.stderr, done.stderr

    lost = ("is not there", f"extract keys/{path.name} from a backup")
    assert_named(gateway, *lost)
    # A token that does not come from the key reaches no gateway either: none can have started.
    store = {"path": str(gateway.data)}
    assert_named(Gateway(bench, "token", store=store, admin_token_file=str(token)), *lost)
    path.symlink_to(bench.folder / "key")
    assert_named(gateway, str(path), "symbolic link")
    other = Gateway(bench, "mounted", store=store, cluster_key_file=str(mounted))
    assert_named(other, "has another key than the mounted one", "is the gateway running")


def test_every_command_reports_that_the_store_has_lost_its_cluster(bench):
    gateway = Gateway(bench)
    gateway.create_token("demo")
    shutil.rmtree(gateway.data / "v2" / "cluster.json")
    for words in (
        ["token", "list"], ["token", "create", "x"], ["cert", "list"], ["cluster", "show"], ["backup", "-"], ["status"],
        ["cluster", "rotate-key"], ["store", "remove", "agents/x"], ["store", "check"],
    ):
        done = gateway.cli(*words, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1 and "is missing although the store has values (agents/" in said, said
        assert "there is no cluster" not in said, said


VALUES: list[tuple[str, Callable[[Path], None]]] = [
    ("is empty", lambda path: path.touch(0o600)),
    ("is not a version of a value", lambda path: path.write_bytes(b"noise")),
    ("has a wrong MAC", lambda path: path.write_bytes((path.parent / "1.json").read_bytes())),
    ("is larger than", lambda path: (path.touch(0o600), os.truncate(path, 8 << 30))),
    ("is not of the expected kind", lambda path: path.mkdir(0o700)),
    ("is not of the expected kind", lambda path: os.mkfifo(path, 0o600)),
    ("is a symbolic link", lambda path: path.symlink_to("/etc/hostname")),
]


def test_values_that_cannot_be_used_are_listed_and_removed(bench):
    gateway = Gateway(bench).start()
    cert, key = map(str, IssuingAuthority(bench.folder / "issuer").server("app.test"))
    gateway.cli("cert", "import", "--cert", cert, "--key", key)
    damaged = {}
    for words, damage in VALUES:
        identifier = token_id(gateway.create_token("demo"))
        path = gateway.data / "v2" / "agents" / identifier / "2.json"
        damage(path)
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)
        damaged[f"agents/{identifier}"] = (words, str(path))
    certificate = gateway.data / "v2" / "certs" / "app.test" / "2.json"
    certificate.touch(0o600)
    code, report = check(gateway)
    assert code == 1 and report["usable"] and report["problems"] == [], report["problems"]
    found = {value["key"]: value for value in report["unusable"]}
    assert found.keys() == {*damaged, "certs/app.test"} and report["unusable_count"] == len(found)
    for name, (words, path) in damaged.items():
        assert words in found[name]["reason"] and path == found[name]["path"], found[name]
        assert f"hopgate store remove {name}" in found[name]["reason"], found[name]
    assert found["certs/app.test"]["version_in_use"] == 1
    done = gateway.cli("store", "check", check=False)
    assert done.returncode == 1 and "8 files and values cannot, as listed above." in done.stdout.splitlines()[-1]
    # The remedies of the list work.
    gateway.cli("cert", "import", "--cert", cert, "--key", key)
    for name in damaged:
        assert gateway.cli("store", "remove", name).stderr.endswith(f"Removed {name}.\n")
    assert check(gateway)[0] == 0
    refused = gateway.cli("store", "remove", "certs/app.test", check=False)
    assert refused.returncode == 1 and "can be used, so it is not removed" in refused.stderr
    other = gateway.cli("store", "remove", "keys/x", check=False)
    assert other.returncode == 2 and "The key of a value is one of agents/" in other.stderr, other.stderr


# -- status and the admin port


def test_status_shows_the_agent_and_no_secret(stack: Stack):
    gateway = stack.gateway
    status = answer(gateway, "status")
    assert status["stage"] == "active" and status["agents"] == 1 and status["store"]["state"] == "healthy"
    secret = stack.token.partition(".")[2]
    texts = [gateway.cli("status").stdout, gateway.cli("status", "--json").stdout]
    assert "demo" in texts[0] and "web" in texts[0]
    replicas = eventually(lambda: answer(gateway, "cluster", "status")["replicas"], 5, "the replica sees itself")
    assert [replica["self"] for replica in replicas] == [True]
    key = next((gateway.data / "v2" / "keys").iterdir()).read_bytes().hex()
    for text in texts:
        assert secret not in text and key not in text


def test_status_shows_the_worst_and_on_request_everything(bench):
    """Names without a CA that answers: a summary with 20 of them, and all in pages."""
    names = [f"n{number}.example.test" for number in range(600)]
    gateway = Gateway(
        bench,
        acme={"agree_to_terms": True, "ca": ["https://127.0.0.1:1/directory"], "names": names},
    ).start()
    summary = answer(gateway, "status")
    total = summary["certificates"]
    assert total >= 600 and len(summary["worst_certificates"]) == 20, summary
    assert sum(summary["certificate_states"].values()) == total
    shown = gateway.cli("status").stdout
    assert (
        f"and {total - 20} more; --all shows them" in shown and str(summary["certificate_states"]["failing"]) in shown
    )
    lines = [json.loads(line) for line in gateway.cli("status", "--all", "--json").stdout.splitlines()]
    assert lines[0]["gateway"]["name"] == summary["name"]
    listed = [line["certificate"]["names"] for line in lines[1:] if line["certificate"]["source"] == "store"]
    assert sorted(listed) == sorted([name] for name in names)
    shown = gateway.cli("status", "--all").stdout
    assert all(name in shown for name in names)


def test_the_admin_port_needs_the_token(stack: Stack):
    gateway = stack.gateway
    for token, scheme in (("", ""), ("nonsense", "Bearer"), ("eDp5", "Basic")):
        refused = gateway.ask_admin("/v1/status", token, scheme)
        assert refused.status == 401 and refused.get("www-authenticate").startswith("Bearer")
    metrics = gateway.metrics()
    assert metrics['hopgate_admin_auth_failures_total{reason="missing"}'] >= 2
    assert metrics['hopgate_admin_auth_failures_total{reason="wrong"}'] >= 1


def test_no_route_leads_from_the_public_side_to_ops_or_admin(stack: Stack):
    gateway = stack.gateway
    for host in ("localhost", "admin", f"127.0.0.1:{gateway.admin_port}", "127.0.0.1"):
        for target in ("/v1/status", "/metrics", "/readyz", "/healthz"):
            answered = gateway.request("GET", target, host=host, server_name="app.localhost")
            assert answered.status in (404, 421), (host, target)
    # On a known host these paths belong to the service.
    assert gateway.request("GET", "/v1/status").get("www-authenticate") is None


def test_a_token_of_the_operators_own(bench):
    gateway = Gateway(bench)
    token = gateway.folder / "admin-token"
    token.write_text("too short\n")
    gateway.settings["admin_token_file"] = str(token)
    gateway.write_config()
    gateway.start(wait=False)
    assert gateway.process.wait() != 0
    gateway.process.wait_log("at least 32")
    token.write_text("a" * 40 + "\n")
    gateway.start()
    assert gateway.ask_admin("/v1/status", "a" * 40).status == 200
    assert answer(gateway, "status")["stage"] == "active"
    token.write_text("b" * 40 + "\n")
    eventually(lambda: gateway.ask_admin("/v1/status", "b" * 40).status == 200, 5, "the new token opens")
    # 429 if the polling above has exceeded the limit.
    assert gateway.ask_admin("/v1/status", "a" * 40).status in (401, 429)


def test_drain_finishes_what_is_in_flight_and_ends(bench, test_id):
    stack = Stack(bench)
    gateway = stack.gateway
    connection = stack.connect()
    connection.start("GET", "/hang", [("X-Test-Id", test_id)])
    stack.origin.wait_mark(test_id, "started")
    gateway.cli("drain")
    gateway.process.wait_log("gateway draining", 5)
    eventually(lambda: gateway.ops("/readyz", quiet=True) in (503, 0), 5, "it is not ready any more")
    assert gateway.process.alive
    # A second request changes nothing; a SIGTERM now counts as the first one.
    gateway.cli("drain", check=False)
    connection.close()
    gateway.cli("drain", "--wait", "15s", check=False)
    assert gateway.process.wait(15) == 0
    done = gateway.cli("drain", check=False)
    assert done.returncode == 1 and "is the gateway running" in done.stderr
    assert done.stderr.startswith(f"Store {gateway.data}.")


# -- the store's state


def test_a_store_that_goes_away_is_reported_and_comes_back_without_a_restart(bench):
    stack = Stack(bench)
    gateway = stack.gateway
    connection = stack.connect()
    assert connection.request("GET", "/bytes/10").status == 200
    since = gateway.process.mark()
    away = gateway.data.with_name("away")
    gateway.data.rename(away)

    def store_part() -> dict:
        return json.loads(gateway.ops("/readyz").text)["parts"]["store"]

    eventually(lambda: store_part()["detail"] == "gone", 10, "the store is gone")
    assert not store_part()["ready"] and gateway.ops("/readyz").status == 200
    assert connection.request("GET", "/bytes/10").status == 200
    eventually(lambda: gateway.metrics()['hopgate_store_state{state="gone"}'] == 1, 5, "the gauge shows it")
    gateway.process.wait_log("store degraded", 5, since)
    if gateway.data.exists():
        subprocess.run(["rm", "-r", str(gateway.data)], check=True)
    away.rename(gateway.data)
    eventually(lambda: store_part()["detail"] == "healthy", 10, "the store is back")
    gateway.process.wait_log("store recovered", 15, since)
    changes = ("store degraded", "store recovered")
    lines = [line for line in gateway.process.log_objects(since) if line["msg"].startswith(changes)]
    assert len(lines) == 2, lines


# -- founding


def test_a_gateway_reports_that_it_founds_a_cluster_and_uses_no_other(bench):
    gateway = Gateway(bench).start()
    founded = json.loads(gateway.process.wait_log("cluster founded", 5))
    shown = json.loads(gateway.cli("cluster", "show", "--json").stdout)
    assert founded["cluster"] == shown["id"] and founded["path"] == shown["store"] == str(gateway.data)
    gateway.process.stop()
    gateway.settings["store"]["cluster"] = shown["id"]
    gateway.write_config()
    gateway.start()
    assert "cluster founded" not in gateway.process.log()
    gateway.process.stop()
    # The volume is not mounted at the next start.
    away = gateway.folder / "away"
    gateway.data.rename(away)
    gateway.data.mkdir(mode=0o700)
    for words in (["run"], ["token", "create", "x"], ["store", "check"]):
        done = gateway.cli(*words, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1 and f"store.cluster names {shown['id']}" in said, said
    assert not list(gateway.data.iterdir())


def test_no_command_founds_a_cluster_beside_a_gateway_that_runs(bench):
    gateway = Gateway(bench).start()
    gateway.data.rename(gateway.folder / "away")
    gateway.data.mkdir(mode=0o700)
    for words in (["token", "create", "x"], ["ca"]):
        done = gateway.cli(*words, check=False)
        assert done.returncode == 1 and not done.stdout, done
        assert f"a gateway runs at 127.0.0.1:{gateway.admin_port}" in done.stderr, done.stderr
        assert "is the volume mounted here?" in done.stderr, done.stderr
    assert not list(gateway.data.iterdir())


def test_a_token_of_another_cluster_is_named_with_its_store(bench):
    gateway = Gateway(bench).start()
    other = Gateway(bench, "other")
    other.create_token("demo")
    cluster = json.loads(other.cli("cluster", "show", "--json").stdout)["id"]
    other.settings["admin_listen"] = gateway.settings["admin_listen"]
    other.write_config()
    done = other.cli("status", check=False)
    assert done.returncode == 1, done
    assert f"rejected the token, which comes from the key of cluster {cluster} in {other.data};" in done.stderr, done


def test_commands_name_their_store_and_found_none_in_the_default_folder(bench):
    home = bench.folder / "home"
    home.mkdir()
    environment = {**ENVIRONMENT, "HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
    # As another user, who cannot write to /var/lib/hopgate.
    user = dict(user=65534, group=65534) if os.access("/var/lib/hopgate", os.W_OK) else {}
    if user:
        os.chown(home, 65534, 65534)
    for words in (["token", "create", "x"], ["ca"]):
        done = hopgate(*words, env=environment, cwd=home, **user)
        assert done.returncode == 1 and done.stdout == "" and "--store-path" in done.stderr, done.stderr
    assert not list(home.iterdir())
    # A start could not create its folder. Nothing is closed to root, and the folders above `home` are to other users.
    with tempfile.TemporaryDirectory() as above:
        os.chmod(above, 0o755)
        closed = Path(above) / "closed"
        closed.mkdir(mode=0o500)
        user = {}
        if os.geteuid() == 0:
            user = dict(user=65534, group=65534)
            os.chown(closed, 65534, 65534)
        done = hopgate("config", "check", "--store-path", str(closed / "store"), env=environment, **user)
        remedy = "set store.path to a folder that this user owns"
        reason = f"cannot be created: {closed}: mkdir: Permission denied; {remedy}"
        assert done.returncode == 1 and f"{closed}/store: {reason}" in done.stderr, done.stderr
        done = hopgate("config", "check", env={**environment, "XDG_DATA_HOME": str(closed)}, **user)
        default = f"{closed}/hopgate: is the default store.path, which {reason}"
        assert done.returncode == 1 and default in done.stderr, done.stderr
        if user:
            # A store of another user is not given away: that would take it from the gateway.
            store = Path(above) / "store"
            hopgate("token", "create", "x", "--store-path", str(store), env=environment)
            for words in (["token", "list"], ["config", "check"], ["store", "check"], ["run"]):
                done = hopgate(*words, "--store-path", str(store), env=environment, **user)
                said = done.stdout + done.stderr
                assert done.returncode in (1, 2) and "give the folder" not in said, said
                assert f"{store} belongs to user root (0), and this command runs as " in said, said
    place = home / "named"
    done = hopgate("token", "create", "x", "--store-path", str(place), "--json", env=environment)
    assert done.stderr.startswith("Founded cluster ") and f" in {place}." in done.stderr.splitlines()[0]
    assert json.loads(done.stdout)["store"] == str(place)
    done = hopgate("token", "list", "--store-path", str(place), env=environment)
    assert done.returncode == 0 and done.stderr.startswith(f"Store {place}, cluster "), done.stderr


# -- output


# Every command that prints a result, those with a * also with --json. The tokens `first` and `other` and a certificate
# of app.test exist.
OUTPUTS = """
token create full *
token rotate first *
token list *
token show first *
token revoke other --json
ca *
ca --pem
cert list *
cert show app.test *
cert show app.test --pem
cert import --cert CERT --key KEY *
backup -
cluster show *
cluster status *
cluster rotate-key
status *
status --all
store check *
config check
healthcheck
version
--help
token --help
"""


def test_a_result_that_cannot_be_written_is_a_failure_of_every_command(bench):
    gateway = Gateway(bench).start()
    for name in ("first", "other"):
        gateway.cli("token", "create", name)
    cert, key = map(str, IssuingAuthority(bench.folder / "issuer").server("app.test"))
    gateway.cli("cert", "import", "--cert", cert, "--key", key)
    lines = OUTPUTS.replace("CERT", cert).replace("KEY", key).strip().splitlines()
    for line in [line.replace("*", suffix) for line in lines for suffix in (["", "--json"] if "*" in line else [""])]:
        words = line.split()
        if words[-1] not in ("version", "--help"):
            words += ["--config", str(gateway.config_path)]
        with open("/dev/full", "w") as full:
            done = hopgate(*words, stdout=full)
        assert done.returncode == 1 and "standard output: " in done.stderr, (words, done)
        assert "No space left on device" in done.stderr, (words, done)
        # The same command prints its result elsewhere.
        if words[:2] not in (["token", "create"], ["token", "revoke"], ["cluster", "rotate-key"]):
            done = hopgate(*words)
            assert done.returncode == 0 and done.stdout, (words, done)
    # A token that could not be printed does not stay valid.
    full = [token for token in json.loads(gateway.cli("token", "list", "--json").stdout) if token["name"] == "full"]
    assert len(full) == 2 and all(token["revoked"] for token in full), full


def test_a_join_string_that_cannot_be_written_revokes_its_token(bench):
    gateway = Gateway(bench, tunnel_addresses=["gateway.test:443"]).start()
    with open("/dev/full", "w") as full:
        done = hopgate("token", "create", "x", "--config", str(gateway.config_path), stderr=full)
    assert done.returncode == 1
    assert json.loads(gateway.cli("token", "list", "--json").stdout)[0]["revoked"]


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_are_used_for_nothing_else(bench, closing):
    launcher = ["sh", "-c", f'exec "$@" {closing}', "sh"]
    closed = [number for number, word in enumerate(("<&-", ">&-", "2>&-")) if word in closing.split()]
    origin = Origin(bench)
    gateway = Gateway(bench, tunnel_addresses=["gateway.test:443"])
    gateway.launcher = launcher
    gateway.start()
    agent = Agent(bench, gateway, gateway.create_token("demo"), origin.port)
    agent.launcher = launcher
    agent.start()
    for process in (gateway.process, agent.process):
        for number in closed:
            assert os.readlink(f"/proc/{process.pid}/fd/{number}") == "/dev/null", (process.name, number)
    words = [*launcher, HOPGATE, "token", "create", "unseen", "--config", str(gateway.config_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    # The token goes to standard output, the join string to standard error.
    assert done.returncode == (0 if closed == [0] else 1), done
    if done.returncode == 1:
        assert 2 in closed or "standard output: Bad file descriptor" in done.stderr, done.stderr
        tokens = json.loads(gateway.cli("token", "list", "--json").stdout)
        assert all(token["revoked"] for token in tokens if token["name"] == "unseen"), tokens


def test_a_mistyped_command_names_the_nearest_one_and_the_help(bench):
    for program, words, path, guess, sibling in (
        (HOPGATE, ["tokn"], "hopgate", "token", "healthcheck"),
        (HOPGATE, ["cluster", "stats"], "hopgate cluster", "status", "rotate-key"),
        (HOPGATE, ["cert", "lst"], "hopgate cert", "list", "import"),
        (HOPAGENT, ["htp", "3000"], "hopagent", "http", "healthcheck"),
        (HOPAGENT, ["config", "chek"], "hopagent config", "check", "check"),
    ):
        done = subprocess.run([program, *words, "--json"], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
        word = words[0] if words[0] == "htp" else words[-1]
        assert done.returncode == 2 and done.stdout == "", done
        first, second = done.stderr.splitlines()
        assert first == f'{path.split()[0]}: there is no command "{word}". Did you mean "{path} {guess}"?', first
        assert sibling in second and second.endswith(f"See: {path} --help"), second


def test_an_option_before_the_command_is_named(bench):
    for program, words, option in (
        (HOPGATE, ["--config", "a.yaml", "backup", "x.tar"], "--config"),
        (HOPGATE, ["--json", "status"], "--json"),
        (HOPAGENT, ["--token=hgt_x", "http", "3000"], "--token"),
    ):
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
        name, command = Path(program).name, next(word for word in words if word in ("backup", "status", "http"))
        assert done.returncode == 2 and done.stdout == "" and "hgt_x" not in done.stderr, done
        assert f'{option} stands before the command "{command}"' in done.stderr, done.stderr
        assert f"{name} {command} … {option} …" in done.stderr, done.stderr


def test_a_mistyped_option_names_the_nearest_one_and_the_help(bench):
    for program, words, path, guess in (
        (HOPGATE, ["status", "--jsn"], "hopgate status", "--json"),
        (HOPAGENT, ["http", "3000", "--jion", "x"], "hopagent http", "--join"),
    ):
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
        assert done.returncode == 2 and done.stdout == "", done
        assert f"Did you mean '{guess}'?" in done.stderr and f"'{path} --help'" in done.stderr, done.stderr


def test_a_mistake_in_an_argument_shows_the_usage_of_its_command(bench):
    gateway = Gateway(bench)
    for usage, words in (
        ("hopgate token create", ["token", "create", "x", "--grace", "soon"]),
        ("hopgate token rotate", ["token", "rotate", "x", "--grace", "soon"]),
        ("hopgate cert show", ["cert", "show", "a b"]),
        ("hopgate store remove", ["store", "remove", "x"]),
        ("hopgate ca", ["ca", "--pem", "--json"]),
    ):
        done = gateway.cli(*words, check=False)
        assert done.returncode == 2 and done.stderr.startswith("Error: "), done
        assert f"\nUsage: {usage} " in done.stderr, done.stderr


def test_acme_commands_without_acme_name_the_missing_setting(bench):
    gateway = Gateway(bench).start()
    for words in (["check", "a.test"], ["forget-account"]):
        done = gateway.cli("acme", *words, check=False)
        assert done.returncode == 1 and "neither acme.names nor acme.on_demand.hosts" in done.stderr, done.stderr


# -- backup and restore


def test_a_backup_restored_into_an_empty_folder_is_the_same_cluster(bench):
    stack = Stack(bench)
    gateway = stack.gateway
    gone = gateway.create_token("gone")
    gateway.revoke_token(gone)
    cluster = answer(gateway, "status")["cluster"]
    path = gateway.folder / "backup.tar"
    done = gateway.cli("backup", str(path))
    assert cluster["id"] in done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert names[-1] == "hopgate-backup.json" and any(name.startswith("agents/") for name in names)
    stack.agent.process.stop()
    gateway.process.stop()

    new = Gateway(bench, "restored", routes=gateway.settings["routes"])
    new.settings["store"]["cluster"] = "f" * 32
    new.write_config()
    other = new.cli("restore", str(path), check=False)
    assert other.returncode == 1, other
    assert f"{path}: is a backup of cluster {cluster['id']}, but store.cluster names ffff" in other.stderr, other.stderr
    del new.settings["store"]["cluster"]
    new.write_config()
    said = new.cli("restore", str(path)).stderr
    assert said.startswith(f"Store {new.data}.") and " credentials, " in said and " certificates, " in said, said
    assert "Revocations, rotations and certificates after 2" in said and "are undone: revoke again." in said, said
    new.start()
    assert answer(new, "status")["cluster"] == cluster
    agent = Agent(bench, new, stack.token, stack.origin.port, name="old-agent").start()
    new.wait_serving()
    refused = Agent(bench, new, gone, stack.origin.port, name="gone-agent").start(wait=False)
    refused.process.wait_log("AUTH_FAILED", 10)
    agent.process.stop()
    # The store belongs to a cluster now.
    again = new.cli("restore", str(path), check=False)
    assert again.returncode == 1 and "already belongs to a cluster" in again.stderr


def test_a_damaged_backup_writes_nothing(bench):
    gateway = Gateway(bench).start()
    path = gateway.folder / "backup.tar"
    gateway.cli("backup", str(path))
    good = path.read_bytes()
    new = Gateway(bench, "restored")
    for harm in (good[:-10_240], good[:5_000], b"", good.replace(b"cluster", b"clusteR"), os.urandom(20_480)):
        path.write_bytes(harm)
        done = new.cli("restore", str(path), check=False)
        assert done.returncode == 1 and str(path) in done.stderr, done.stderr
        assert not (new.data / "v2" / "cluster.json").exists()
    path.write_bytes(good)
    new.cli("restore", str(path))


def test_a_backup_that_cannot_be_written_or_read_names_the_remedy(bench):
    gateway = Gateway(bench)
    gateway.create_token("demo")
    away = gateway.folder / "nowhere"
    for words, what in (
        (["backup", f"{away}/x.tar"], f"the folder {away} does not exist; create it first"),
        (["backup", "--check", str(away)], "there is no such file; name the file that hopgate backup wrote"),
        (["restore", str(away)], "there is no such file; name the file that hopgate backup wrote"),
        (["cert", "import", "--cert", str(away), "--key", str(away)], "there is no such file"),
        (["token", "create", "x", "--gateway", "a.test", "--join-file", f"{away}/join"], "create the folder first"),
    ):
        done = gateway.cli(*words, check=False)
        assert done.returncode == 2 and what in done.stderr, done.stderr
    with open("/dev/full", "w") as full:
        command = [HOPGATE, "backup", "-", "--config", str(gateway.config_path)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=20, env=ENVIRONMENT)
    assert done.returncode == 1 and "No space left on device; free some space" in done.stderr, done.stderr


def test_a_backup_replaces_regular_files_only(bench):
    """A FIFO, a folder and links to them stay; a link to a file stays and its target is replaced."""
    gateway = Gateway(bench).start()
    folder = gateway.folder
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("pipe")
    for name, kind in (("pipe", "a FIFO"), ("folder", "a folder"), ("link", "a FIFO")):
        before = (folder / name).lstat()
        done = gateway.cli("backup", str(folder / name), check=False)
        assert done.returncode == 2 and f"{folder / name}: is {kind}" in done.stderr, done.stderr
        assert (folder / name).lstat().st_ino == before.st_ino
    (folder / "real.tar").write_bytes(b"old")
    (folder / "latest.tar").symlink_to("real.tar")
    gateway.cli("backup", str(folder / "latest.tar"))
    assert (folder / "latest.tar").is_symlink()
    checked = gateway.cli("backup", "--check", str(folder / "real.tar"))
    assert checked.stderr.startswith("Can be restored: cluster "), checked.stderr
    truncated = (folder / "real.tar").read_bytes()[:-512]
    for content, words in ((truncated, "is truncated"), (b"", "is empty"), (b"x" * 99, "is no backup of a HopGate store")):
        (folder / "real.tar").write_bytes(content)
        checked = gateway.cli("backup", "--check", str(folder / "real.tar"), check=False)
        assert checked.returncode == 1 and f"real.tar: {words}" in checked.stderr, checked.stderr
    for name, kind in (("pipe", "a FIFO"), ("folder", "a folder")):
        done = gateway.cli("restore", str(folder / name), check=False)
        assert done.returncode == 2 and f"{folder / name}: is {kind}" in done.stderr, done.stderr
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_a_backup_goes_through_pipes(bench):
    gateway = Gateway(bench).start()
    new = Gateway(bench, "restored")
    backup = subprocess.run(
        [HOPGATE, "backup", "-", "--config", str(gateway.config_path)],
        capture_output=True,
        timeout=20,
        env=ENVIRONMENT,
        check=True,
    )
    subprocess.run(
        [HOPGATE, "restore", "-", "--config", str(new.config_path)],
        input=backup.stdout,
        capture_output=True,
        timeout=20,
        env=ENVIRONMENT,
        check=True,
    )
    new.start()
    assert keys_of(new) == keys_of(gateway)


# -- rotation


def test_the_key_is_changed_under_running_gateways(bench):
    stack = Stack(bench)
    one = stack.gateway
    two = sharing(bench, "second", one).start()
    eventually(lambda: len(answer(one, "cluster", "status")["replicas"]) == 2, 5, "both replicas are seen")
    before = keys_of(one)
    session = answer(one, "status")
    pid = stack.agent.process.pid

    one.cli("cluster", "rotate-key")
    after = keys_of(two)
    assert len(after) == 2 and after[1:] == before and after == keys_of(one)
    # Sessions stay, and old and new tokens work on both replicas.
    assert stack.agent.process.pid == pid and stack.agent.metrics()["hopagent_ready_tunnels"] == 1
    assert "hopagent_reconnects_total" not in stack.agent.metrics() or (
        stack.agent.metrics()["hopagent_reconnects_total"] == 0
    )
    assert stack.request("GET", "/bytes/10").status == 200
    assert session["agents"] == 1
    token = one.create_token("fresh")
    for gateway, credential, name in ((two, stack.token, "old-token"), (two, token, "new-token")):
        Agent(bench, gateway, credential, stack.origin.port, name=name, trust={"ca_file": one.ca_file}).start()

    done = one.cli("cluster", "rotate-key", "--retire-old")
    assert "Backups that were made before still hold the removed keys" in done.stderr, done.stderr
    eventually(lambda: keys_of(one) == keys_of(two) == after[:1], 5, "the old key is forgotten by both")
    assert [path.name for path in (one.data / "v2" / "keys").iterdir()] == after[:1]
    assert stack.request("GET", "/bytes/10").status == 200
    one.process.stop()
    one.start()
    one.wait_serving(timeout=40)


def test_a_rotation_that_is_killed_goes_on_when_it_is_run_again(bench):
    origin = Origin(bench)
    gateway = Gateway(bench)
    token = gateway.create_token("demo")
    gateway.start()
    before = keys_of(gateway)
    for number, delay in enumerate((0.05, 0.5, 2.0, 3.5, 5.0)):
        command = [HOPGATE, "cluster", "rotate-key", "--config", gateway.config_path]
        process = bench.start(f"rotate-{number}", command)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.signal(signal.SIGKILL)
            process.wait()
        assert before[0] in keys_of(gateway)
    gateway.cli("cluster", "rotate-key", "--retire-old")
    keys = eventually(lambda: len(k := keys_of(gateway)) == 1 and k, 5, "one key is left")
    assert keys != before
    assert check(gateway)[0] == 0
    Agent(bench, gateway, token, origin.port).start()


def test_only_a_key_that_is_left_is_retired(bench):
    gateway = Gateway(bench)
    gateway.create_token("demo")
    gateway.cli("cluster", "rotate-key")
    gateway.cli("cluster", "rotate-key", "--retire-old")
    keys = list((gateway.data / "v2" / "keys").iterdir())
    for _ in range(2):
        done = gateway.cli("cluster", "rotate-key", "--retire-old", check=False)
        assert done.returncode == 1 and "there is no old key to retire" in done.stderr, done
    assert list((gateway.data / "v2" / "keys").iterdir()) == keys and len(keys) == 1


def test_with_the_memory_store_the_key_changes_at_a_restart(bench):
    (bench.folder / "key").write_text("1" * 64)
    for settings, remedy in (
        ({}, "to change it, restart the gateway"),
        ({"cluster_key_file": str(bench.folder / "key")}, "change it there, and restart the gateway"),
    ):
        gateway = Gateway(bench, store={"driver": "memory"}, **settings)
        done = gateway.cli("cluster", "rotate-key", check=False)
        assert done.returncode == 1 and remedy in done.stderr and "volume" not in done.stderr, done


def test_damage_to_a_key_and_its_repair_are_logged_once(bench):
    keys = bench.folder / "cluster-keys"
    keys.write_text("1" * 64 + "\n")
    for gateway in (Gateway(bench, "mounted", cluster_key_file=str(keys)), Gateway(bench, "own")):
        gateway.start()
        path = keys if gateway.name == "mounted" else next((gateway.data / "v2" / "keys").iterdir())
        good = path.read_bytes()
        replacement = path.with_name("replacement")
        for text in (b"damaged\n", good):
            replacement.write_bytes(text)
            replacement.chmod(0o600)
            mark = gateway.process.mark()
            replacement.rename(path)
            message = "cluster keys reloaded" if text == good else "cluster keys not reloaded"
            line = json.loads(gateway.process.wait_log(message, 20, since=mark))
            assert text == good or path.name in line["error"], line
        messages = [line["msg"] for line in gateway.process.log_objects() if "cluster keys" in line["msg"]]
        assert len(messages) == 2, messages
        gateway.process.stop()


def test_a_mounted_key_is_the_operators_to_change(bench):
    keys = bench.folder / "cluster-keys"
    first, second = "1" * 64, "2" * 64
    keys.write_text(first + "\n")
    origin = Origin(bench)
    gateway = Gateway(bench, cluster_key_file=str(keys))
    token = gateway.create_token("demo")
    gateway.start()
    assert not answer(gateway, "status")["cluster"]["key_on_volume"]
    (old,) = keys_of(gateway)

    def rotation() -> str:
        done = gateway.cli("cluster", "rotate-key")
        assert "cluster_key_file" in done.stderr and "Resealed" in done.stderr, done.stderr
        return done.stderr

    def refusal() -> str:
        done = gateway.cli("cluster", "rotate-key", "--retire-old", check=False)
        assert done.returncode == 1 and not done.stdout, done
        return done.stderr

    said = rotation()
    assert f"holds one key. The first, {old}, signs. To change the key, begin with step 1." in said, said
    assert "there is no old key to remove" in refusal()
    keys.write_text(first + "\n" + second + "\n")
    eventually(lambda: len(keys_of(gateway)) == 2, 5, "both keys are known")
    new = keys_of(gateway)[1]
    eventually(lambda: f"{old}, {new}" in gateway.cli("cluster", "status").stdout, 10, "the replica lists both keys")
    said = rotation()
    assert f"holds 2 keys. The first, {old}, signs. Not used for signing yet: {new}. Next is step 2." in said, said
    assert "step 3." not in said and "Next is step 4" not in said, said
    keys.write_text(second + "\n" + first + "\n")
    said = rotation()
    assert f"The first, {new}, signs. This is step 3." in said, said
    assert f"Next is step 4: remove from {keys} the lines of the other keys: {old}." in said, said
    assert f"remove the old line from {keys} yourself" in refusal()
    said = rotation()
    assert "step 3 was done before" in said and "Next is step 4" in said, said
    keys.write_text(second + "\n")
    eventually(lambda: len(keys_of(gateway)) == 1, 5, "the old key is gone")
    gateway.process.stop()
    gateway.start()
    Agent(bench, gateway, token, origin.port).start()


def test_a_key_that_was_moved_to_a_secret_is_on_the_volume_until_it_is_deleted(bench):
    gateway = Gateway(bench)
    gateway.create_token("demo")
    path = next((gateway.data / "v2" / "keys").iterdir())
    keys = bench.folder / "cluster-keys"
    keys.write_text("2" * 64 + "\n" + path.read_bytes().hex() + "\n")
    gateway.settings["cluster_key_file"] = str(keys)
    gateway.write_config()
    for words in (["cluster", "show"], ["store", "check"]):
        shown = gateway.cli(*words).stdout
        assert f"{path.name} (mounted; also on the volume: rm {path})" in shown, shown
        assert shown.count("(mounted)") == 1, shown
    assert json.loads(gateway.cli("cluster", "show", "--json").stdout)["keys_on_volume"] == [path.name]
    assert check(gateway)[1]["cluster"]["keys_on_volume"] == [path.name]
    path.unlink()
    shown = gateway.cli("cluster", "show").stdout
    assert shown.count("(mounted)") == 2 and "on the volume" not in shown, shown
    report = json.loads(gateway.cli("cluster", "show", "--json").stdout)
    assert report["keys_on_volume"] == [] and not report["key_on_volume"], report


# -- messages


def test_a_port_in_use_is_named_with_its_setting(bench):
    gateway = Gateway(bench, dtls_listen=f"127.0.0.1:{free_port()}")
    agent = Agent(bench, gateway, gateway.create_token("demo"), 1)
    cases = [(gateway, key) for key in ("https_listen", "http_listen", "dtls_listen", "ops_listen", "admin_listen")]
    for program, key in [*cases, (agent, "ops_listen")]:
        address = program.settings[key]
        kind = socket.SOCK_DGRAM if key == "dtls_listen" else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind(("127.0.0.1", int(address.rpartition(":")[2])))
            if kind == socket.SOCK_STREAM:
                taken.listen()
            program.start(wait=False)
            assert program.process.wait(20) == 1
        suffix = "/udp" if key == "dtls_listen" else ""
        assert f"{key}: cannot listen on {address}{suffix}: another process uses this port" in program.process.log()
        assert "descriptor" not in program.process.log() and "errno" not in program.process.log()
    gateway.settings["admin_listen"] = f"192.0.2.1:{gateway.admin_port}"
    gateway.write_config()
    gateway.start(wait=False)
    assert gateway.process.wait(20) == 1
    assert "admin_listen: cannot listen on 192.0.2.1" in gateway.process.log()
    assert "this machine does not have this address" in gateway.process.log()


def test_an_origin_that_is_down_is_named_with_the_reason_and_the_remedy(bench):
    stack = Stack(bench)
    stack.origin.stop()
    assert stack.request("GET", "/bytes/10").status == 502
    line = json.loads(stack.agent.process.wait_log("origin unreachable"))
    assert line["reason"] == "Connection refused" and "(services)" in line["remedy"], line


def test_the_printed_command_works_in_a_shell(bench):
    origin = Origin(bench)
    gateway = Gateway(bench, "it's a gateway").start()
    join_file = gateway.folder / "join file"
    arguments = ["--service", "web-*", "--host", "*.apps.test", "--host", "app.test"]
    made = gateway.token("create", "demo", *arguments, "--join-file", str(join_file))
    line = next(line.strip() for line in made.stderr.splitlines() if line.strip().startswith("hopagent "))
    assert shlex.split(line)[-2:] == ["--join-file", str(join_file)]
    # Names that the shell would put in the place of an unquoted pattern.
    (bench.folder / "a.apps.test").touch()
    line = line.replace("hopagent", "exec " + shlex.quote(HOPAGENT), 1).replace(" 3000 ", f" {origin.port} ")
    bench.start("shell", ["sh", "-c", line + " --ops-listen off"])
    gateway.wait_serving(host="any.apps.test")
    shown = gateway.cli("status", "--all", "--json").stdout
    assert '"web-http"' in shown and '"app.test"' in shown, shown


def test_an_import_of_a_certificate_out_of_its_time_warns(bench):
    gateway = Gateway(bench)
    day = 86_400
    for name, skew, words in (("old", -400 * day, "Warning: it expired at 20"), ("new", 400 * day, "not valid before 20")):
        cert, key = IssuingAuthority(bench.folder / name, skew=skew).server(f"{name}.test")
        done = gateway.cli("cert", "import", "--cert", str(cert), "--key", str(key))
        assert words in done.stderr and done.stdout, done
    cert, key = IssuingAuthority(bench.folder / "now").server("now.test")
    assert "arning" not in gateway.cli("cert", "import", "--cert", str(cert), "--key", str(key)).stderr
