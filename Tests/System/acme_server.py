"""The HTTPS server under acme_stub.py: HTTP/1.1 with persistent connections, and responses that end at any point."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable

from acme_scripts import Answer

Handle = Callable[[str, str, "dict[str, str]", bytes, int], Answer]


class SecureServer:
    """handle: called with method, path, fields (names in lower case), body and the client's port."""

    def __init__(self, handle: Handle, chain: Path, key: Path, port: int = 0):
        self.use_certificate(chain, key)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def setup(self):
                # Not where connections are accepted, since others must not wait for this handshake.
                self.request.settimeout(10)
                self.request = outer._tls.wrap_socket(self.request, server_side=True)
                super().setup()

            def serve(self):
                fields = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(fields.get("content-length", 0)))
                answer = handle(self.command, self.path, fields, body, self.client_address[1])
                self.close_connection = not outer._send(self, answer)

            do_GET = do_HEAD = do_POST = serve

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # clients that are killed or reject our certificate are expected

            def shutdown_request(self, request):
                # The socket was passed to TLS, which has closed it.
                self.close_request(request)

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    def use_certificate(self, chain: Path, key: Path) -> None:
        """Sets the certificate of new connections."""
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(chain, key)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> bool:
        """Sends a response; returns whether the connection may carry another request."""
        if answer.cut == "before":
            _reset(handler.connection)
            return False
        handler.send_response_only(answer.status)
        for name, value in answer.fields.items():
            if value is not None:
                handler.send_header(name, value)
        is_bare = handler.command == "HEAD" or answer.status in (204, 304)
        if not is_bare and answer.content_type:
            handler.send_header("Content-Type", answer.content_type)
        if answer.stream is not None:
            handler.send_header("Transfer-Encoding", "chunked")
        elif not is_bare:
            handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        if is_bare:
            return True
        if answer.cut == "within":
            handler.wfile.write(answer.body[: len(answer.body) // 2])
            _reset(handler.connection)
            return False
        if answer.stream is None:
            handler.wfile.write(answer.body)
            return True
        try:
            for piece in answer.stream:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n")
            return True
        except OSError:
            return False  # the client closed the connection


def _reset(connection: socket.socket) -> None:
    """Ends the connection as a crash would."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    except OSError:
        pass
