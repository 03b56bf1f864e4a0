"""The systems under test: each accepts HTTPS on loopback and forwards to the same nginx origin.

All edges use the same type of key (P-256) and TLS 1.3 with AES-128-GCM, the cipher that the tunnels use too.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import harness
from harness import Agent, Bench, Gateway, eventually, free_port

HOST = "bench.localhost"
SMALL, MEDIUM, LARGE = 1024, 102_400, 10 << 20


def listening(port: int, address: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


def wait_port(port: int) -> None:
    eventually(lambda: listening(port), 10, f"port {port} is open")


class Nginx:
    """An nginx with a separate prefix folder."""

    def __init__(self, bench: Bench, name: str, body: str, workers: int = 2):
        folder = bench.subfolder(name)
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(f"""
daemon off;
user root;
pid {folder}/pid;
error_log {folder}/error.log error;
worker_processes {workers};
events {{ worker_connections 8192; }}
http {{
    access_log off;
    {temporary}
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 100000000;
    client_max_body_size 0;
    {body}
}}
""")
        self.process = bench.start(
            name, ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
        )


def origin(bench: Bench) -> tuple[Nginx, int]:
    """Starts the origin: static files, and /sink, which reads a whole upload before it responds."""
    files = bench.subfolder("files")
    for name, size in (("1k", SMALL), ("100k", MEDIUM), ("10m", LARGE), ("20m", 20_000_000)):
        (files / name).write_bytes(os.urandom(size))
    port = free_port()
    done = bench.folder / "done.socket"
    nginx = Nginx(
        bench,
        "origin",
        f"""
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {files};
        location = /sink {{
            client_body_buffer_size 16m;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_pass http://unix:{done}:/;
        }}
    }}
    server {{
        listen unix:{done};
        location / {{ return 204; }}
    }}
""",
        workers=1,
    )
    wait_port(port)
    return nginx, port


class System:
    """A system under test. roots: the processes whose resources are counted, with their descendants."""

    def __init__(self, label: str, port: int, roots: list[int], tls: bool = True):
        self.label, self.port, self.roots = label, port, roots
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"


class Edge:
    """The TLS edge of the other systems: a certificate, and nginx in front of an upstream on loopback."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.certificate, self.key = bench.folder / "edge.pem", bench.folder / "edge.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            + ["-keyout", str(self.key), "-out", str(self.certificate)]
            + ["-subj", "/CN=bench", "-addext", f"subjectAltName=DNS:{HOST},DNS:localhost"],
            check=True,
            capture_output=True,
        )

    def nginx(self, name: str, upstream_port: int) -> tuple[Nginx, int]:
        port = free_port()
        nginx = Nginx(
            self.bench,
            name,
            f"""
    ssl_certificate {self.certificate};
    ssl_certificate_key {self.key};
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    upstream behind {{
        server 127.0.0.1:{upstream_port};
        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
        }}
    }}
""",
        )
        wait_port(port)
        return nginx, port


def nginx_alone(edge: Edge, origin_port: int) -> System:
    nginx, port = edge.nginx("nginx", origin_port)
    return System("nginx TLS proxy, no tunnel", port, [nginx.process.pid])


class SecureShell:
    """`ssh -R`: a separate server, and a client that forwards a port of the server's side to its own `target_port`."""

    def __init__(self, near: Bench, far: Bench, target_port: int, address: str = "127.0.0.1"):
        folder = near.subfolder("ssh")
        folder.chmod(0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        self.server_port, self.forwarded_port = free_port(), free_port()
        (folder / "sshd.conf").write_text(f"""
Port {self.server_port}
ListenAddress {address}
HostKey {folder}/host
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
AllowTcpForwarding yes
LogLevel ERROR
""")
        # sshd requires /run/sshd, which does not exist in a container.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.server = near.start(
            "sshd", [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd.conf"]
        )
        eventually(lambda: listening(self.server_port, address), 10, "sshd listens")
        options = [
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={folder}/known",
            "ExitOnForwardFailure=yes",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
        ]
        self.client = far.start(
            "ssh",
            ["ssh", "-F", "none", "-N", "-T", "-i", folder / "user", "-c", "aes128-gcm@openssh.com"]
            + [part for option in options for part in ("-o", option)]
            + ["-R", f"127.0.0.1:{self.forwarded_port}:127.0.0.1:{target_port}"]
            + ["-p", str(self.server_port), f"{os.environ.get('USER', 'root')}@{address}"],
        )
        wait_port(self.forwarded_port)


def ssh_tunnel(edge: Edge, origin_port: int) -> System:
    tunnel = SecureShell(edge.bench, edge.bench, origin_port)
    nginx, port = edge.nginx("nginx-ssh", tunnel.forwarded_port)
    roots = [nginx.process.pid, tunnel.server.pid, tunnel.client.pid]
    return System("nginx TLS, ssh -R (aes128-gcm)", port, roots)


def hopgate(bench: Bench, origin_port: int, binaries: Path | None = None) -> System:
    """Starts a gateway and an agent of this build, or of another one whose binaries are in the folder `binaries`."""
    kind = "" if binaries is None else "-before"
    built = harness.HOPGATE, harness.HOPAGENT
    if binaries is not None:
        harness.HOPGATE, harness.HOPAGENT = str(binaries / "hopgate"), str(binaries / "hopagent")
    try:
        routes = [{"host": HOST, "to": "bench/web"}]
        gateway = Gateway(bench, f"gateway{kind}", routes=routes, log_level="warning").start()
        token = gateway.create_token("bench")
        agent = Agent(bench, gateway, token, origin_port, f"agent{kind}", log_level="warning").start()
    finally:
        harness.HOPGATE, harness.HOPAGENT = built
    gateway.wait_serving("/1k", host=HOST)
    return System(f"hopgate and hopagent{kind}", gateway.https_port, [gateway.process.pid, agent.process.pid])
