"""Certificates of all three sources: their precedence, and replacement without interruption."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

from acme_authority import IssuingAuthority
from client import Connection, trusting
from harness import ENVIRONMENT, HOPGATE, Agent, Gateway, Origin, Stack, eventually, free_port, token_id

ROUTES = [{"host": "app.localhost", "to": "demo/web"}]


class Authority:
    """A CA of the test and its leaves."""

    def __init__(self, folder: Path, name: str = "Test CA"):
        self.folder = folder
        self.certificate, self.key = folder / "ca.pem", folder / "ca.key"
        self.count = 0
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-keyout", self.key, "-out", self.certificate, "-subj", f"/CN={name}"),
        )

    @staticmethod
    def _openssl(*arguments) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    def leaf(self, *names: str, key_kind: str = "ec:ec_paramgen_curve:P-256") -> tuple[Path, Path]:
        """Issues a new certificate with its chain and its key. The kind is openssl's, with an option behind a colon."""
        self.count += 1
        base = self.folder / f"leaf-{self.count}"
        key, request, leaf, extensions = (base.with_suffix(s) for s in (".key", ".csr", ".crt", ".ext"))
        chain = base.with_suffix(".pem")
        algorithm, _, option = key_kind.partition(":")
        self._openssl(
            *("req", "-newkey", algorithm, *(("-pkeyopt", option) if option else ()), "-nodes", "-keyout", key),
            *("-out", request, "-subj", f"/CN=leaf {self.count}"),
        )
        extensions.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\n")
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-days", "2"),
            *("-set_serial", 1000 + self.count, "-out", leaf, "-extfile", extensions),
        )
        chain.write_bytes(leaf.read_bytes() + self.certificate.read_bytes())
        return chain, key


def served_serial(port: int, name: str = "app.localhost") -> int:
    """The serial number of the leaf that a new connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        with context.wrap_socket(raw, server_hostname=name) as tls:
            der = tls.getpeercert(binary_form=True)
    done = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-serial"], input=der, capture_output=True, check=True
    )
    return int(done.stdout.split(b"=")[1], 16)


def serial(chain: Path) -> int:
    done = subprocess.run(["openssl", "x509", "-in", str(chain), "-noout", "-serial"], capture_output=True, check=True)
    return int(done.stdout.split(b"=")[1], 16)


def import_pair(gateway: Gateway, pair: tuple[Path, Path], *more: str) -> str:
    return gateway.cli("cert", "import", "--cert", str(pair[0]), "--key", str(pair[1]), *more).stdout


def mount(folder: Path, number: int, pair: tuple[Path, Path]) -> None:
    """Replaces files as the kubelet does when a Secret changes."""
    version = folder / f"..version-{number}"
    version.mkdir(parents=True)
    (version / "tls.crt").write_bytes(pair[0].read_bytes())
    (version / "tls.key").write_bytes(pair[1].read_bytes())
    link = folder / "..data_tmp"
    link.symlink_to(version.name)
    os.replace(link, folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    old = folder / f"..version-{number - 1}"
    if old.exists():
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


class Requests:
    """About 500 requests a second from a few threads with a kept connection each, until `stop`."""

    def __init__(self, gateway: Gateway, ca_file: Path, threads: int = 10, rate: float = 500):
        self.gateway, self.ca_file, self.pause = gateway, str(ca_file), threads / rate
        self.done, self.failures = 0, []
        self.dropped = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        try:
            connection = Connection(("127.0.0.1", self.gateway.https_port), "app.localhost", trusting(self.ca_file))
            due = time.monotonic()
            while not self._stop.is_set():
                response = connection.request("GET", "/bytes/100")
                with self._lock:
                    self.done += 1
                    if response.status != 200 or response.length != 100:
                        self.failures.append(f"status {response.status}")
                due += self.pause
                time.sleep(max(0, due - time.monotonic()))
            connection.close()
        except Exception as error:  # noqa: BLE001 — any exception means a dropped connection
            with self._lock:
                self.dropped += 1
                self.failures.append(repr(error))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


def swaps_under_load(bench, swap_source: str) -> None:
    authority = Authority(bench.folder)
    pairs = [authority.leaf("app.localhost", "localhost") for _ in range(11)]
    secret = bench.folder / "secret"
    secret.mkdir()
    settings = {}
    if swap_source == "secret":
        mount(secret, 0, pairs[0])
        settings["certificates"] = [{"cert": str(secret / "tls.crt"), "key": str(secret / "tls.key")}]
    gateway = Gateway(bench, routes=ROUTES, **settings)
    if swap_source == "import":
        import_pair(gateway, pairs[0])
    gateway.start()
    origin = Origin(bench)
    trust = {"ca_file": str(authority.certificate)}
    agent = Agent(bench, gateway, gateway.create_token("demo"), origin.port, trust=trust).start()

    def serves() -> bool:
        with Connection(
            ("127.0.0.1", gateway.https_port), "app.localhost", trusting(str(authority.certificate))
        ) as connection:
            return connection.request("GET", "/bytes/100").status == 200

    eventually(serves, 10, "a request goes through")
    reconnects = agent.metrics()["hopagent_reconnects_total"]
    load = Requests(gateway, authority.certificate)
    began = time.monotonic()
    delays, new_handshakes = [], 0
    for number, pair in enumerate(pairs[1:], start=1):
        if swap_source == "import":
            import_pair(gateway, pair)
        else:
            mount(secret, number, pair)
        swapped = time.monotonic()
        wanted = serial(pair[0])
        # One replacement after the other, without waiting until the previous one is served. The pause is longer than that
        # between two looks at the store, so that no fixed distance between the two hides every replacement.
        end = began + 1.2 * number
        while time.monotonic() < end:
            if served_serial(gateway.https_port) == wanted:
                delays.append(time.monotonic() - swapped)
                new_handshakes += 1
                break
            time.sleep(0.02)
        time.sleep(max(0, end - time.monotonic()))
    last = serial(pairs[-1][0])
    eventually(lambda: served_serial(gateway.https_port) == last, 2.5, "new handshakes see the last leaf")
    seconds = time.monotonic() - began
    load.stop()
    assert load.dropped == 0 and not load.failures, load.failures[:5]
    assert load.done > 300 * seconds, f"only {load.done} requests in {seconds:.1f} s"
    assert new_handshakes >= 3, delays
    assert agent.metrics()["hopagent_reconnects_total"] == reconnects, "the agent's session stays"
    print(
        f"NOTE {swap_source}: {load.done} requests in {seconds:.1f} s over {10} connections, 10 swaps, 0 dropped;"
        f" seen in time {new_handshakes}, after {max(delays, default=0):.2f} s at most"
    )


def test_a_swap_a_second_by_import_drops_no_connection(bench):
    swaps_under_load(bench, "import")


def test_a_swap_a_second_of_a_mounted_secret_drops_no_connection(bench):
    swaps_under_load(bench, "secret")


def test_an_import_is_served_by_two_gateways_within_two_seconds(bench):
    authority = Authority(bench.folder)
    first = Gateway(bench, "one", routes=ROUTES)
    second = Gateway(bench, "two", routes=ROUTES, store={"path": str(first.data)})
    first.start()
    second.start()
    assert served_serial(first.https_port, "app.localhost") != 0
    for _ in range(3):
        pair = authority.leaf("app.localhost")
        import_pair(first, pair)
        imported = time.monotonic()
        for gateway in (first, second):
            eventually(
                lambda: served_serial(gateway.https_port) == serial(pair[0]),
                imported + 2 - time.monotonic(),
                f"{gateway.name} serves what was imported",
            )


def test_two_gateways_on_one_store_have_one_development_root(bench):
    first = Gateway(bench, "one", routes=ROUTES)
    second = Gateway(bench, "two", routes=ROUTES, store={"path": str(first.data)})
    # Concurrently, on a store that does not exist yet.
    first.start(wait=False)
    second.start(wait=False)
    for gateway in (first, second):
        gateway.wait_ready()
    root = first.ca_file
    pins = set()
    for gateway in (first, second):
        with Connection(("127.0.0.1", gateway.https_port), "app.localhost", trusting(root)) as connection:
            assert connection.request("GET", "/").status == 503
        pins.add(json.loads(gateway.cli("ca", "--json").stdout)["pin"])
    assert len(pins) == 1
    assert second.cli("ca", "--pem").stdout == Path(root).read_text()


def test_eight_processes_at_once_make_one_development_root(bench):
    gateway = Gateway(bench)
    command = [HOPGATE, "ca", "--json", "--config", str(gateway.config_path)]
    for round in range(5):
        children = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=bench.folder)
            for _ in range(8)
        ]
        answers = {child.communicate(timeout=30)[0] for child in children}
        assert all(child.returncode == 0 for child in children) and len(answers) == 1, answers
        assert len(list(gateway.data.glob("v2/certs/development-ca/*"))) == 1, f"round {round}"
        shutil.rmtree(gateway.data)


def test_agents_see_the_certificate_that_browsers_see(bench):
    """HTTPS and DTLS share one snapshot; an agent's trust depends on the imported chain alone."""
    stack = Stack(bench)
    authority = Authority(bench.folder)
    reconnects = stack.agent.metrics()["hopagent_reconnects_total"]
    with stack.connect() as running:
        assert running.request("GET", "/bytes/10").length == 10
        import_pair(stack.gateway, authority.leaf("app.localhost", "localhost"))
        new = trusting(str(authority.certificate))

        def serves_new() -> bool:
            try:
                with Connection(("127.0.0.1", stack.gateway.https_port), "app.localhost", new) as connection:
                    return connection.request("GET", "/bytes/10").status == 200
            except ssl.SSLError:
                return False

        eventually(serves_new, 3, "browsers get the new certificate")
        # The earlier connection and the agent's session continue.
        assert running.request("GET", "/bytes/10").length == 10
        assert stack.agent.metrics()["hopagent_reconnects_total"] == reconnects
    trust = {"ca_file": str(authority.certificate)}
    Agent(bench, stack.gateway, stack.token, stack.origin.port, "second", trust=trust).start()
    # A client that trusts only the old root fails now.
    late = Agent(bench, stack.gateway, stack.token, stack.origin.port, "late").start(wait=False)
    late.process.wait_log("certificate|verif", 10)


def test_the_development_ca_covers_what_an_import_does_not(bench):
    authority = Authority(bench.folder)
    gateway = Gateway(bench, routes=[*ROUTES, {"host": "other.localhost", "to": "demo/web"}]).start()
    import_pair(gateway, authority.leaf("app.localhost"))
    wanted = trusting(str(authority.certificate))

    def is_new() -> bool:
        try:
            with Connection(("127.0.0.1", gateway.https_port), "app.localhost", wanted) as connection:
                return connection.request("GET", "/").status == 503
        except ssl.SSLError:
            return False

    eventually(is_new, 3, "the imported certificate is served")
    assert gateway.request("GET", "/", host="other.localhost").status == 503
    gateway.cli("cert", "remove", "app.localhost")
    assert not [p for p in gateway.data.rglob("v2/certs/app.localhost/*.json") if b"PRIVATE" in p.read_bytes()]

    def is_old() -> bool:
        try:
            return gateway.request("GET", "/").status == 503
        except ssl.SSLError:
            return False

    eventually(is_old, 3, "after the removal the development CA serves the name")
    done = gateway.cli("cert", "remove", "app.localhost", check=False)
    assert done.returncode == 1 and "cert list" in done.stderr


def test_certificates_are_listed_and_shown_without_their_keys(bench):
    authority = Authority(bench.folder)
    own = authority.leaf("filed.localhost")
    gateway = Gateway(
        bench, routes=ROUTES, certificates=[{"cert": str(own[0]), "key": str(own[1])}], development_ca="on"
    )
    pair = authority.leaf("*.wild.localhost", "wild.localhost")
    place = import_pair(gateway, pair).strip()
    assert place == "certs/_wildcard.wild.localhost/1"
    again = import_pair(gateway, authority.leaf("*.wild.localhost", "wild.localhost")).strip()
    assert again > place
    for _ in range(2):
        import_pair(gateway, pair)
    assert len(list(gateway.data.glob("v2/certs/_wildcard.wild.localhost/*.json"))) <= 3
    gateway.start()
    outputs = [gateway.cli("cert", "list").stdout]
    outputs.append(gateway.cli("cert", "list", "--json").stdout)
    listed = json.loads(outputs[-1])
    assert [entry["source"] for entry in listed] == ["files", "store", "development"]
    assert listed[1]["names"] == ["*.wild.localhost", "wild.localhost"] and listed[1]["origin"] == "import"
    assert all(entry["state"] == "good" for entry in listed)
    for name, source in (("filed.localhost", "files"), ("a.wild.localhost", "store"), ("x.localhost", "development")):
        outputs.append(gateway.cli("cert", "show", name, "--json").stdout)
        assert json.loads(outputs[-1])["source"] == source, name
        shown = gateway.cli("cert", "show", name)
        is_root = "whose root this is. To trust it: hopgate ca." in shown.stderr
        assert is_root == (source == "development"), shown.stderr
        outputs.append(shown.stdout)
        outputs.append(gateway.cli("cert", "show", name, "--pem").stdout)
        assert outputs[-1].startswith("-----BEGIN CERTIFICATE-----")
    # The development CA covers no host without a route or an agent.
    done = gateway.cli("cert", "show", "x.test", check=False)
    assert done.returncode == 1 and not done.stdout, done
    assert "no certificate covers x.test: the development CA creates one as soon as a route" in done.stderr, done.stderr
    names = [name for name in gateway.metrics() if name.startswith("hopgate_certificate_not_after")]
    assert len(names) == 3 and any("filed.localhost" in name for name in names), names
    outputs += [gateway.process.log(), gateway.ops("/metrics").text]
    for text in outputs:
        assert "PRIVATE" not in text


KEY_KINDS = {
    **{f"rsa-{bits}": f"rsa:rsa_keygen_bits:{bits}" for bits in (2048, 3072, 4096)},
    **{f"p-{bits}": f"ec:ec_paramgen_curve:P-{bits}" for bits in (256, 384, 521)},
    "ed25519": "ed25519",
}


def test_a_command_for_one_name_reads_one_certificate(bench):
    """Another certificate that cannot be read does not matter; one of several names is found nevertheless."""
    gateway = Gateway(bench, development_ca="off")
    cert, key = IssuingAuthority(bench.folder / "issuer").server("first.test", "second.test")
    files = ["--cert", str(cert), "--key", str(key)]
    gateway.cli("cert", "import", *files)
    gateway.cli("cert", "import", *files, "--name", "other.test")
    # The other one cannot be read.
    (document,) = (gateway.data / "v2" / "certs" / "other.test").glob("[0-9]*")
    document.unlink()
    document.mkdir()
    shown = json.loads(gateway.cli("cert", "show", "first.test", "--json").stdout)
    assert shown["place"] == "certs/first.test" and shown["state"] == "good", shown
    document.rmdir()
    document.parent.rmdir()
    shown = json.loads(gateway.cli("cert", "show", "second.test", "--json").stdout)
    assert shown["place"] == "certs/first.test", shown
    refused = gateway.cli("cert", "remove", "second.test", check=False)
    assert refused.returncode == 1 and "hopgate cert remove first.test" in refused.stderr, refused.stderr
    gateway.cli("cert", "remove", "first.test")


def test_a_certificate_that_cannot_be_read_is_left_out_of_backups_and_can_be_removed_by_its_place(bench):
    gateway = Gateway(bench, development_ca="off")
    cert, key = IssuingAuthority(bench.folder / "issuer").server("open.test")
    gateway.cli("cert", "import", "--cert", str(cert), "--key", str(key))
    place = gateway.data / "v2" / "certs" / "open.test"
    newest = max(place.glob("[0-9]*"), key=lambda path: int(path.name.split(".")[0]))
    newest.chmod(0o644)
    done = gateway.cli("backup", str(bench.folder / "some.tar"), check=False)
    assert done.returncode == 1 and "\nleft out: " in done.stderr, done.stderr
    assert "values left out: 1" in done.stderr.splitlines()[-1], done.stderr
    gateway.cli("backup", "--check", str(bench.folder / "some.tar"))
    gateway.cli("cert", "remove", f"certs/open.test/{newest.name.split('.')[0]}")
    assert not newest.exists()
    gateway.cli("backup", str(bench.folder / "all.tar"))


def test_a_name_that_is_not_issued_yet_is_shown_with_the_error_of_its_authority(bench):
    directory = f"https://127.0.0.1:{free_port()}/directory"
    gateway = Gateway(
        bench,
        acme={"agree_to_terms": True, "email": "a@example.test", "ca": directory, "names": ["app.localhost"]},
        routes=[{"host": "app.localhost", "to": "demo/web"}],
    )
    gateway.start()

    def shown():
        done = gateway.cli("cert", "show", "app.localhost", "--json", check=False)
        assert done.returncode == 1 and "app.localhost is not issued yet" in done.stderr, done.stderr
        return json.loads(done.stdout)

    eventually(lambda: shown()["last_error"], 90, "the error of the CA is shown")
    found = shown()
    assert found["state"] == "is not issued yet" and found["last_error"]["message"].startswith("directory: no answer"), found
    assert found["next_try"], found
    table = gateway.cli("cert", "show", "app.localhost", check=False).stdout
    assert "last error" in table and "next try" in table, table
    (entry,) = [entry for entry in json.loads(gateway.cli("cert", "list", "--json").stdout) if entry["names"]]
    assert entry["names"] == ["app.localhost"] and entry["state"] == "is not issued yet", entry
    gone = gateway.cli("cert", "remove", "first.test", check=False)
    assert gone.returncode == 1 and "no certificate named first.test" in gone.stderr, gone.stderr


def stored_key(version: Path) -> str:
    """The private key of a version of a certificate, as it is in the file."""
    return json.dumps(json.loads(version.read_bytes().split(b"\n", 1)[1])["key"])[1:-1]


def test_a_gateway_logs_a_new_development_root(bench):
    gateway = Gateway(bench).start()
    pin = json.loads(gateway.cli("ca", "--replace", "--json").stdout)["pin"]
    gateway.process.wait_log("development root replaced", 10)
    (line,) = [line for line in gateway.process.log_objects() if line["msg"] == "development root replaced"]
    assert line["fingerprint"] == pin and line["level"] == "notice", line


def test_a_new_development_root_replaces_the_present_one(bench):
    gateway = Gateway(bench)
    before = gateway.cli("ca", "--pem").stdout
    assert gateway.cli("ca", "--pem").stdout == before
    (token, revoked) = (token_id(gateway.create_token(name)) for name in ("demo", "gone"))
    gateway.token("revoke", revoked)
    folder = gateway.data / "v2/certs/development-ca"
    (first,) = folder.iterdir()
    key = stored_key(first)
    done = gateway.cli("ca", "--replace", "--pem")
    after = done.stdout
    assert after != before and gateway.cli("ca", "--pem").stdout == after
    # No version says that it was removed, and the previous key is nowhere on the volume at the end.
    versions = sorted(folder.iterdir())
    assert [path.name for path in versions] == ["2.json", "3.json"]
    assert len({stored_key(path) for path in versions} - {key}) == 1
    assert not [path for path in gateway.data.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    for name in ("development-ca", "certs/development-ca", "certs/development-ca/1"):
        refused = gateway.cli("cert", "remove", name, check=False)
        assert refused.returncode == 1 and '"hopgate ca --replace" replaces it' in refused.stderr, refused.stderr
    # Join strings have the pin of the previous root.
    assert f'Tokens: {token} for "demo".' in done.stderr and "token rotate ID [--gateway" in done.stderr, done.stderr


def test_keys_of_all_kinds_serve_agents_and_clients(bench):
    authority = Authority(bench.folder)
    origin = Origin(bench)
    gateway = Gateway(bench, routes=[{"host": f"{kind}.localhost", "to": f"{kind}/web"} for kind in KEY_KINDS])
    pairs = {kind: authority.leaf(f"{kind}.localhost", key_kind=option) for kind, option in KEY_KINDS.items()}
    for pair in pairs.values():
        import_pair(gateway, pair)
    gateway.start()
    agents = [
        Agent(
            *(bench, gateway, gateway.create_token(kind), origin.port),
            name=kind,
            trust={"ca_file": str(authority.certificate)},
            server_name=f"{kind}.localhost",
        ).start(wait=False)
        for kind in pairs
    ]
    for agent in agents:
        agent.wait_ready()
    for kind, pair in pairs.items():
        assert served_serial(gateway.https_port, f"{kind}.localhost") == serial(pair[0]), kind
        context = trusting(str(authority.certificate))
        with Connection(("127.0.0.1", gateway.https_port), f"{kind}.localhost", context) as client:
            assert client.request("GET", "/bytes/100").status == 200, kind
    # A peer that does not support the key of the certificate only learns that it was refused; the gateway says why.
    subprocess.run(
        ["openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{gateway.https_port}", "-alpn", "hop/1"]
        + ["-servername", "ed25519.localhost", "-sigalgs", "ECDSA+SHA256:RSA+SHA256"],
        input=b"",
        capture_output=True,
        timeout=20,
    )
    gateway.process.wait_log('"level":"warning","msg":"DTLS handshake failed".*in common', 5)
    cert, key = authority.leaf("ed448.localhost", key_kind="ed448")
    done = gateway.cli("cert", "import", "--cert", str(cert), "--key", str(key), check=False)
    assert done.returncode == 2 and "Ed25519" in done.stderr, done.stderr


def test_agents_that_joined_by_address_stay_attached_when_a_certificate_is_imported(bench):
    gateway, origin = Gateway(bench, routes=ROUTES), Origin(bench)
    gateway.start()
    pin = gateway.cli("ca", "--json").stdout
    trust = {"pin": json.loads(pin)["pin"]}
    address = [f"127.0.0.1:{gateway.https_port}"]
    token = gateway.create_token("demo")
    agent = Agent(bench, gateway, token, origin.port, trust=trust, gateways=address).start()
    authority = Authority(bench.folder)
    import_pair(gateway, authority.leaf("app.localhost"))
    # An agent that trusts the imported certificate alone is attached once it is served to agents.
    other = {"ca_file": str(authority.certificate)}
    Agent(bench, gateway, token, origin.port, "other", trust=other, server_name="app.localhost").start()
    agent.process.stop()
    agent.start()


def test_a_bad_pair_is_refused_with_the_reason(bench):
    authority = Authority(bench.folder)
    gateway = Gateway(bench, routes=ROUTES)
    one, other = authority.leaf("app.localhost"), authority.leaf("app.localhost")
    reversed_chain = bench.folder / "reversed.pem"
    reversed_chain.write_bytes(one[0].read_bytes() + other[0].read_bytes())
    weak = bench.folder / "weak.pem", bench.folder / "weak.key"
    authority._openssl(
        *("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-days", "2", "-keyout", weak[1], "-out", weak[0]),
        *("-subj", "/CN=weak", "-addext", "subjectAltName=DNS:app.localhost"),
    )
    for cert, key, why in (
        (one[0], other[1], "does not belong"),
        (one[1], one[0], "are the two files exchanged?"),
        (reversed_chain, one[1], "is not signed by"),
        (*weak, "is an RSA key of 1024 bits, and at least 2048 are needed"),
        (bench.folder / "nothing.pem", one[1], "no such file"),
    ):
        done = gateway.cli("cert", "import", "--cert", str(cert), "--key", str(key), check=False)
        assert done.returncode == 2 and why in done.stderr, done.stderr
    assert not list(gateway.data.glob("v2/certs/app*"))


def test_a_document_placed_by_hand_keeps_the_last_good_one_and_is_counted(bench):
    authority = Authority(bench.folder)
    gateway = Gateway(bench, routes=ROUTES)
    pair = authority.leaf("app.localhost")
    place = Path(import_pair(gateway, pair).strip())
    gateway.start()
    assert served_serial(gateway.https_port) == serial(pair[0])
    # A newer version, edited by hand.
    folder = gateway.data / "v2" / place.parent
    forged = folder / f"{int(place.name) + 1}.json"
    forged.write_bytes((folder / f"{place.name}.json").read_bytes().replace(b'"import"', b'"imported"'))
    forged.chmod(0o600)
    gateway.process.wait_log("wrong MAC", 5)
    assert served_serial(gateway.https_port) == serial(pair[0])
    assert gateway.metrics()['hopgate_certificate_problems{reason="store"}'] == 1
    done = gateway.cli("cert", "list", check=False)
    assert done.returncode == 1 and "wrong MAC" in done.stderr
    new = authority.leaf("app.localhost")
    import_pair(gateway, new)
    eventually(lambda: served_serial(gateway.https_port) == serial(new[0]), 3, "a good one is served again")
    eventually(lambda: gateway.metrics()['hopgate_certificate_problems{reason="store"}'] == 0, 3, "nothing is wrong")
    assert len([line for line in gateway.process.log().splitlines() if "wrong MAC" in line]) == 1


def test_without_any_certificate_the_start_fails_with_the_remedy(bench):
    gateway = Gateway(bench, routes=ROUTES, development_ca="off")
    gateway.start(wait=False)
    assert gateway.process.wait() == 2
    assert "hopgate cert import" in gateway.process.log()
    import_pair(gateway, Authority(bench.folder).leaf("app.localhost"))
    gateway.start()
