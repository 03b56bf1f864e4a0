"""Authentication of agents, and the messages about rejections."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from pathlib import Path

from client import Connection, trusting
from harness import (
    ENVIRONMENT,
    HOPAGENT,
    Agent,
    Gateway,
    Origin,
    Stack,
    ask_ops,
    eventually,
    free_port,
    token_id,
)


def new_gateway(bench, **settings) -> tuple[Gateway, Origin]:
    gateway = Gateway(bench, routes=[{"host": "app.localhost", "to": "demo/web"}], **settings).start()
    return gateway, Origin(bench)


def join_fields(file: Path) -> dict:
    text = file.read_text().strip().removeprefix("hgj_")
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def assert_refused(gateway: Gateway, agent: Agent, at_gateway: str, at_agent: str) -> None:
    """Each side reports the problem in one line; no log contains a secret; the agent serves nothing."""
    gateway.process.wait_log(at_gateway, 10)
    agent.process.wait_log(at_agent, 10)
    eventually(lambda: agent.ops("/readyz", quiet=True) != 200, 2, "the agent is not ready")
    assert gateway.request("GET", "/").status == 503
    secret = agent.settings["token"].partition(".")[2]
    for process in (gateway.process, agent.process):
        assert secret not in process.log(), "a secret in the log"


def test_a_wrong_secret_is_refused(bench):
    gateway, origin = new_gateway(bench)
    token = gateway.create_token("demo")
    wrong = token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "BBBBBB")
    agent = Agent(bench, gateway, wrong, origin.port).start(wait=False)
    assert_refused(gateway, agent, "auth|token", "auth|token|refused")
    assert token_id(token) in gateway.process.log(), "the log names the token's id"


def test_an_unknown_token_is_refused_like_a_wrong_one(bench):
    gateway, origin = new_gateway(bench)
    token = gateway.create_token("demo")
    identifier, _, secret = token.partition(".")
    unknown = identifier[:-4] + ("0000" if identifier[-4:] != "0000" else "1111") + "." + secret
    agent = Agent(bench, gateway, unknown, origin.port).start(wait=False)
    assert_refused(gateway, agent, "auth|token", "auth|token|refused")


def test_a_revoked_token_ends_its_sessions_and_is_refused(bench):
    stack = Stack(bench)
    with stack.connect() as connection:
        connection.start("GET", "/drip?n=1000&ms=50")
        connection.head()
        revoked = time.monotonic()
        stack.gateway.revoke_token(stack.token)
        response = connection.finish()
        assert time.monotonic() - revoked < 5
        assert not response.complete
    assert_refused(stack.gateway, stack.agent, "revoked|auth", "revoked|auth|refused|token")
    stack.agent.process.kill()
    stack.agent.start(wait=False)
    assert_refused(stack.gateway, stack.agent, "revoked|auth", "revoked|auth|refused|token")


def test_a_token_works_as_soon_as_its_command_returns(bench):
    """The first on an empty store, and one after a rotation: the agent attaches without a word about its token. A
    rotation without grace and a revocation end sessions within two seconds."""
    gateway, origin = new_gateway(bench)

    def attached(name: str, token: str) -> Agent:
        agent = Agent(bench, gateway, token, origin.port, name=name).start()
        assert "attach failed" not in agent.process.log(), agent.process.log()
        return agent

    first = attached("first", gateway.create_token("demo"))
    token = re.search(r"hgt_\S+", gateway.token("rotate", "demo", "--grace", "0s").stdout)[0]
    second = attached("second", token)
    first.process.wait_log("tunnel lost", 2)
    gateway.revoke_token(token)
    second.process.wait_log("tunnel lost", 2)


def test_a_refused_token_is_a_warning_and_then_an_error(bench):
    gateway, origin = new_gateway(bench)
    agent = Agent(bench, gateway, "hgt_aaaaaaaaaaaaaaaa." + "A" * 43, origin.port).start(wait=False)
    agent.process.wait_log('"level":"error","msg":"attach failed"', 20)
    lines = [line["level"] for line in agent.process.log_objects() if line["msg"] == "attach failed"]
    assert lines == ["warning", "error"]
    refusals = [line["level"] for line in gateway.process.log_objects() if line["msg"] == "agent refused"]
    assert refusals and set(refusals) == {"notice"}


def test_a_service_outside_the_token_is_refused(bench):
    gateway, origin = new_gateway(bench)
    token = gateway.create_token("demo", services=["other"])
    agent = Agent(bench, gateway, token, origin.port, service="web").start(wait=False)
    gateway.process.wait_log("web", 10)
    agent.process.wait_log("service.*web|web.*service|not allowed", 10)
    assert gateway.request("GET", "/").status == 503


def test_a_host_outside_the_token_is_refused(bench):
    gateway, origin = new_gateway(bench)
    token = gateway.create_token("demo", hosts=["mine.localhost"])
    agent = Agent(bench, gateway, token, origin.port, hosts=["stolen.localhost"]).start(wait=False)
    gateway.process.wait_log("stolen.localhost", 10)
    agent.process.wait_log("stolen.localhost.*|not allowed", 10)
    response = gateway.request("GET", "/", host="stolen.localhost", server_name="app.localhost")
    assert response.status in (404, 421, 503)


def self_signed(folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate that is its own CA, and its key."""
    certificate, key = folder / "own.pem", folder / "own.key"
    alternatives = ",".join(f"DNS:{name}" for name in names)
    subprocess.run(
        [
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=own".split(),
            *("-addext", f"subjectAltName={alternatives}", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_a_gateway_that_cannot_be_verified_gets_no_token(bench):
    gateway, origin = new_gateway(bench, log_level="debug")
    token = gateway.create_token("demo")
    other, _ = self_signed(bench.folder, "other.test")
    agent = Agent(bench, gateway, token, origin.port, trust={"ca_file": str(other)}).start(wait=False)
    assert_refused(gateway, agent, "DTLS handshake failed", "certificate|verif")


def test_a_certificate_for_another_name_is_refused(bench):
    gateway, origin = new_gateway(bench, log_level="debug")
    token = gateway.create_token("demo")
    agent = Agent(bench, gateway, token, origin.port, server_name="other.example").start(wait=False)
    assert_refused(gateway, agent, "DTLS handshake failed", "certificate|verif|name")


def test_the_system_roots_do_not_trust_a_development_ca(bench):
    """There is no insecure default: an agent without a CA file or a pin uses the system's roots."""
    gateway, origin = new_gateway(bench, log_level="debug")
    agent = Agent(bench, gateway, gateway.create_token("demo"), origin.port, trust=None).start(wait=False)
    assert_refused(gateway, agent, "DTLS handshake failed", "certificate|verif")


def test_a_pin_replaces_the_ca_file(bench):
    gateway, origin = new_gateway(bench)
    token = gateway.create_token("demo")
    der = subprocess.run(
        ["openssl", "x509", "-in", gateway.ca_file, "-outform", "DER"], check=True, capture_output=True
    ).stdout
    pin = subprocess.run(
        ["openssl", "dgst", "-sha256", "-r"], input=der, check=True, capture_output=True
    ).stdout.split()[0]
    Agent(bench, gateway, token, origin.port, trust={"pin": "sha256:" + pin.decode()}).start()
    gateway.wait_serving()


def test_a_wrong_pin_is_refused(bench):
    gateway, origin = new_gateway(bench, log_level="debug")
    agent = Agent(
        bench, gateway, gateway.create_token("demo"), origin.port, trust={"pin": "sha256:" + "ab" * 32}
    ).start(wait=False)
    assert_refused(gateway, agent, "DTLS handshake failed", "certificate|verif|pin")


def test_the_gateway_serves_a_configured_certificate(bench):
    certificate, key = self_signed(bench.folder, "app.localhost", "localhost")
    gateway = Gateway(
        bench,
        routes=[{"host": "app.localhost", "to": "demo/web"}],
        certificates=[{"cert": str(certificate), "key": str(key)}],
    ).start()
    origin = Origin(bench)
    Agent(bench, gateway, gateway.create_token("demo"), origin.port, trust={"ca_file": str(certificate)}).start()
    with Connection(("127.0.0.1", gateway.https_port), "app.localhost", trusting(str(certificate))) as connection:
        assert connection.request("GET", "/bytes/5").length == 5


def test_tokens_are_created_listed_and_revoked(bench):
    gateway = Gateway(bench).start()
    one = gateway.create_token("one", services=["web", "api"], hosts=["a.test"])
    two = gateway.create_token("two")
    assert one != two and re.fullmatch(r"hgt_[A-Za-z0-9]+\.[A-Za-z0-9_-]{40,}", one)
    listed = gateway.cli("token", "list").stdout
    for token, name in ((one, "one"), (two, "two")):
        secret = token.partition(".")[2]
        assert token_id(token) in listed and name in listed
        assert secret not in listed
    gateway.revoke_token(one)
    line = next(l for l in gateway.cli("token", "list").stdout.splitlines() if token_id(one) in l)
    assert "revoked" in line.lower()
    assert gateway.cli("token", "revoke", "doesnotexist", check=False).returncode != 0


def run_agent(bench, words: list[str], name: str = "joined", env: dict | None = None):
    """Uses the line that `token create` prints, without further configuration."""
    ops_port = free_port()
    command = [HOPAGENT, *words, "--ops-listen", f"127.0.0.1:{ops_port}", "--log-format", "json"]
    process = bench.start(name, command, env)

    def ready() -> bool:
        assert process.alive, f"hopagent ended with {process.child.returncode}:\n{process.log()[-3000:]}"
        return ask_ops(ops_port, "/readyz", quiet=True) == 200

    eventually(ready, 10, "the agent has a tunnel")
    return process


def test_the_printed_line_enrols_an_agent(bench):
    gateway, origin = new_gateway(bench)
    made = gateway.token("create", "demo", "--service", "web", "--host", "copied.localhost")
    token = made.stdout.strip()
    line = next(l.strip() for l in made.stderr.splitlines() if l.strip().startswith("hopagent "))
    words = line.replace(" 3000 ", f" {origin.port} ").split()
    assert words[0] == "hopagent" and words[-2] == "--join"
    agent = run_agent(bench, words[1:])
    gateway.wait_serving()
    gateway.wait_serving(host="copied.localhost")
    for process in (gateway.process, agent):
        assert token.partition(".")[2] not in process.log() and words[-1] not in process.log()
    described = json.loads(gateway.token("create", "other", "--gateway", "gw.test:1", "--json").stdout)
    assert described["command"] == f"hopagent http 3000 --join {described['join']}"
    shown = json.loads(gateway.token("show", "other", "--json").stdout)
    assert [t["id"] for t in shown] == [described["id"]] and "token" not in shown[0] and "join" not in shown[0]


def test_a_join_string_comes_by_variable_and_file_and_is_checked(bench):
    gateway, origin = new_gateway(bench)
    join = json.loads(gateway.token("create", "demo", "--json").stdout)["join"]
    for name, env in (
        ("by-variable", {"HOPAGENT_JOIN": join}),
        ("by-file", {"HOPAGENT_JOIN_FILE": str(bench.folder / "join")}),
    ):
        (bench.folder / "join").write_text(f"\n  {join}\n\n")
        run_agent(bench, ["http", str(origin.port), "--service", "web"], name, env).stop()
    for arguments, what in (
        (["--join", join[:-20]], "cut or damaged"),
        (["--join", join, "--token", "hgt_a.b"], "and so is token (--token)"),
        ([], "token: is missing, and so is join"),
    ):
        done = subprocess.run(
            [HOPAGENT, "http", "3000", *arguments], capture_output=True, text=True, timeout=10, env=ENVIRONMENT
        )
        assert done.returncode == 2 and what in done.stderr, done.stderr
        assert join[:40] not in done.stderr


def test_a_rotated_token_works_with_both_secrets_until_the_grace_is_over(bench):
    gateway, origin = new_gateway(bench)
    old = gateway.create_token("demo")
    agent = Agent(bench, gateway, old, origin.port).start()
    new = gateway.token("rotate", "demo").stdout.strip()
    assert token_id(new) == token_id(old) and new != old
    assert "replaced, accepted until" in gateway.token("show", "demo").stdout
    agent.process.kill()
    agent.start()
    gateway.wait_serving()
    # Without a grace period: the first secret ends with it, and the newest is the only one.
    newest = gateway.token("rotate", "demo", "--grace", "0s").stdout.strip()
    gateway.process.wait_log("secret replaced", 5)
    assert_refused(gateway, agent, "expired_secret|wrong_secret", "auth|token|refused")
    assert f"the last hopgate token rotate {token_id(newest)} printed" in gateway.process.log()
    agent.settings["token"] = newest
    agent.write_config()
    agent.process.kill()
    agent.start()
    gateway.wait_serving()


def test_no_more_agents_than_the_token_allows(bench):
    gateway, origin = new_gateway(bench)
    made = gateway.token("create", "demo", "--service", "web", "--max-agents", "1")
    assert "; at most 1 agent on each gateway." in made.stderr, made.stderr
    token = made.stdout.strip()
    first = Agent(bench, gateway, token, origin.port, name="first").start()
    second = Agent(bench, gateway, token, origin.port, name="second").start(wait=False)
    gateway.process.wait_log("allows 1 agent at a time", 10)
    second.process.wait_log("allows 1 agent at a time", 10)
    assert gateway.metrics()['hopgate_agent_auth_failures_total{reason="limit"}'] >= 1
    assert second.metrics()['hopagent_attach_failures_total{reason="limit"}'] >= 1
    assert second.ops("/readyz", quiet=True) != 200
    # A crash leaves an unused session behind; its place is given to the next process.
    second.process.kill()
    first.process.kill()
    first.start(timeout=30)
    gateway.wait_serving()


def test_enrolment_can_be_run_any_number_of_times(bench):
    gateway, origin = new_gateway(bench)
    file = bench.folder / "join"

    def enrol(*more: str, check: bool = True) -> subprocess.CompletedProcess:
        return gateway.token(
            "create", "demo", "--service", "web", "--if-absent", "--join-file", str(file), *more, check=check
        )

    for _ in range(3):
        assert enrol().stdout == ""
        assert file.stat().st_mode & 0o777 == 0o600
    first = file.read_text()
    assert len(json.loads(gateway.token("list", "--json").stdout)) == 1
    agent = run_agent(bench, ["http", str(origin.port), "--service", "web", "--join-file", str(file)])
    gateway.wait_serving()
    # The file is lost: there is another secret, and the running agent stays connected.
    file.unlink()
    assert enrol().stdout == "" and file.read_text() != first
    tokens = json.loads(gateway.token("list", "--json").stdout)
    assert len(tokens) == 1 and len(tokens[0]["secrets"]) == 2
    assert gateway.request("GET", "/bytes/5").status == 200 and agent.alive
    # The address changed: the same token is written again.
    second = file.read_text()
    enrol("--gateway", "elsewhere.test:443")
    third = file.read_text()
    assert third != second
    # Without --gateway the file keeps its addresses, also when the pin changes.
    enrol()
    assert file.read_text() == third
    gateway.cli("ca", "--replace")
    assert f"{file} now has the gateway's present pin, with token" in enrol().stderr
    assert join_fields(file)["g"] == ["elsewhere.test:443"] and file.read_text() != third
    done = enrol("--gateway", "127.0.0.1:1")
    assert "present addresses, with token" in done.stderr and "this machine only" not in done.stderr, done.stderr
    gateway.cli("ca", "--replace")
    assert "reachable from this machine only: give --gateway" in enrol().stderr
    assert len(json.loads(gateway.token("show", "demo", "--json").stdout)[0]["secrets"]) == 2
    # The secret was replaced, and the file gets another one.
    gateway.token("rotate", "demo")
    assert "has a new secret, because that of the file was replaced." in enrol().stderr
    # A file that is not ours is not changed.
    (bench.folder / "link").symlink_to(file)
    done = gateway.token("create", "x", "--join-file", str(bench.folder / "link"), check=False)
    assert done.returncode == 2 and "symbolic link" in done.stderr
    config = bench.folder / "other.yaml"
    config.write_text("admin_listen: 127.0.0.1:0\n")
    done = gateway.token("create", "x", "--join-file", str(config), check=False)
    assert done.returncode == 1 and f"{config}: is not empty and holds no join string" in done.stderr, done.stderr
    assert config.read_text() == "admin_listen: 127.0.0.1:0\n"
    done = gateway.token("create", "x", "--join-file", str(file), check=False)
    assert done.returncode == 1 and f'{tokens[0]["id"]} ("demo"): name another file' in done.stderr, done.stderr
    assert "x" not in [t["name"] for t in json.loads(gateway.token("list", "--json").stdout)]
    done = gateway.token("create", "demo", "--if-absent")
    assert done.stdout == "" and "Warning" not in done.stderr
    # Options that do not apply are named, with the way to apply them.
    done = gateway.token("create", "demo", "--if-absent", "--service", "api", "--max-agents", "2")
    assert "services web, not api; maximum of agents none, not 2" in done.stderr, done.stderr
    assert f"hopgate token revoke {tokens[0]['id']}" in done.stderr, done.stderr


def test_a_document_that_was_edited_by_hand_changes_nothing(bench):
    stack = Stack(bench)
    folder = next(stack.gateway.data.rglob(f"agents/{token_id(stack.token)}"))
    forged = folder / "2.json"
    forged.write_text((folder / "1.json").read_text().replace('"web"', '"*"'))
    forged.chmod(0o600)
    stack.gateway.process.wait_log("credential unusable", 5)
    assert stack.request("GET", "/bytes/5").status == 200
    metrics = stack.gateway.metrics()
    assert metrics['hopgate_credentials{state="bad"}'] == 1
    assert metrics['hopgate_credential_documents_refused_total{reason="mac"}'] == 1
    assert stack.gateway.token("list", check=False).returncode == 1
    stack.gateway.revoke_token(stack.token)
    eventually(lambda: stack.gateway.metrics()["hopgate_agents_connected"] == 0, 5, "the session has ended")


def test_secrets_lie_hashed_and_private_in_the_data_folder(bench):
    gateway = Gateway(bench).start()
    secret = gateway.create_token("one").partition(".")[2]
    for path in [gateway.data, *gateway.data.rglob("*")]:
        mode = path.stat().st_mode & 0o777
        if path.is_dir():
            assert mode == 0o700, f"{path} has mode {mode:o}"
        else:
            assert mode & 0o077 == 0 or "root" in path.name, f"{path} has mode {mode:o}"
            assert secret not in path.read_text(errors="replace"), f"{path} holds a secret"


def test_tls_below_1_2_is_refused(bench):
    gateway = Gateway(bench).start()
    for flag, accepted in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        done = subprocess.run(
            [
                *f"openssl s_client -connect 127.0.0.1:{gateway.https_port} {flag}".split(),
                *"-cipher ALL:@SECLEVEL=0 -servername localhost".split(),
            ],
            input="",
            capture_output=True,
            text=True,
            timeout=10,
        )
        shaken = "Cipher is (NONE)" not in done.stdout
        assert shaken == accepted, f"{flag}: {done.stdout}"


def test_the_tunnel_port_speaks_dtls_1_2_with_aead_only(bench):
    gateway = Gateway(bench).start()

    def handshake(*arguments: str) -> str:
        done = subprocess.run(
            [
                *f"timeout 3 openssl s_client -dtls1_2 -connect 127.0.0.1:{gateway.https_port}".split(),
                *("-CAfile", gateway.ca_file, "-servername", "localhost", *arguments),
            ],
            input="",
            capture_output=True,
            text=True,
            errors="replace",
        )
        return done.stdout + done.stderr

    good = handshake("-alpn", "hop/1")
    assert "ALPN protocol: hop/1" in good and "Verify return code: 0" in good, good
    assert re.search(r"Cipher is ECDHE-\w+-(AES128-GCM|CHACHA20)", good), good
    assert "Extended master secret: yes" in good, good
    assert "Cipher is (NONE)" in handshake(
        "-alpn", "hop/1", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:AES128-SHA"
    )
    assert "ALPN protocol: hop/1" not in handshake("-alpn", "http/1.1")


def test_a_garbled_hello_is_no_reason_to_stop_serving(bench):
    """A session that never authenticates is restricted, and ends."""
    stack = Stack(bench)
    shaken = subprocess.Popen(
        [
            *f"openssl s_client -dtls1_2 -connect 127.0.0.1:{stack.gateway.https_port}".split(),
            *("-CAfile", stack.gateway.ca_file, "-alpn", "hop/1", "-quiet"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for number in range(20):
            shaken.stdin.write(b"\x00\x08 not a packet of ours %d\n" % number)
            shaken.stdin.flush()
        assert stack.request("GET", "/bytes/10").length == 10
    except BrokenPipeError:
        pass
    finally:
        shaken.kill()
        shaken.wait()
    eventually(lambda: stack.request("GET", "/bytes/10").status == 200, 5, "still serving")
