"""What a failed connection says: likely cause and next step, tried on real ports, and not more often than useful."""

import logging
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgesem.errors import LinkError
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.explain import TroubleLog, explain
from runtime.mqtt.mosquitto import Listening, end, find_tool, start_mosquitto
from tests.support.edgesem_process import WAIT_S, free_port
from tests.support.real_broker import wait_for_port

needs_mosquitto = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@contextmanager
def mosquitto(folder, **listening):
    """Mosquitto with the user `u`; yields its address."""
    folder.mkdir(mode=0o700, exist_ok=True)
    port = free_port()
    process = start_mosquitto(Listening("127.0.0.1", port, {"u": "p"}, **listening), folder, subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield Address("127.0.0.1", port, user="u", password="p", version="5")
    finally:
        end(process)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that is its own CA, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made = [folder / "cert.pem", folder / "key.pem"]
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca"
    subprocess.run(
        ["openssl", *words.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-out", made[0], "-keyout", made[1]],
        check=True,
        capture_output=True,
        timeout=WAIT_S,
    )
    return made


def why(address):
    """What a failed connection says."""
    with pytest.raises(LinkError) as failed, Connection(address, name="x"):
        pytest.fail("connected")
    return str(failed.value)


@needs_mosquitto
def test_the_login(tmp_path):
    with mosquitto(tmp_path) as address:
        assert "user or password is wrong" in why(Address("127.0.0.1", address.port, user="u", password="q"))
        assert "--user and --password-file" in why(Address("127.0.0.1", address.port))


@needs_mosquitto
@needs_openssl
@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_and_certificates(tmp_path, certificate):
    cert, key = certificate
    with mosquitto(tmp_path / "plain") as plain:
        assert "leave --tls out" in why(Address("127.0.0.1", plain.port, tls=True, version="5"))
    with mosquitto(tmp_path / "tls", cert_file=cert, key_file=key) as address:
        assert "add --tls" in why(Address("127.0.0.1", address.port, version="5"))
        assert "--ca-file" in why(Address("127.0.0.1", address.port, tls=True, version="5"))
        named = Address("localhost", address.port, tls=True, ca_file=cert, version="5")
        assert "for another name" in why(named)
    with mosquitto(tmp_path / "client", cert_file=cert, key_file=key, client_ca_file=cert) as address:
        assert "--cert-file" in why(Address("127.0.0.1", address.port, tls=True, ca_file=cert, version="5"))


def test_other_ports():
    class Page(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert "WebSocket" in explain(Address("127.0.0.1", server.server_port), "the broker hung up")
        server.shutdown()
    assert "nobody listens there" in why(Address("127.0.0.1", free_port()))
    assert "no such host" in why(Address("no-such-host.invalid", 1883))
    with silent() as port:
        assert "does not speak MQTT" in explain(Address("127.0.0.1", port), "the broker hung up")


@contextmanager
def silent():
    """A port that closes every connection without a word."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve():
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_trouble_is_explained_once_and_again_after_some_minutes(caplog):
    now, address = [0.0], Address("127.0.0.1", 1)
    log = logging.getLogger("test.explain")
    troubles = TroubleLog(log, every_s=600, clock=lambda: now[0])
    with caplog.at_level(logging.WARNING, "test.explain"):
        for second in range(0, 1200, 30):
            now[0] = second
            assert "nobody listens" in troubles.warn(address, "Connection refused")
        assert len(caplog.records) == 2
        troubles.warn(address, "timed out")
        assert len(caplog.records) == 3
        troubles.clear()
        troubles.warn(address, "Connection refused")
        assert len(caplog.records) == 4


def test_openssl_says_what_the_table_knows():
    """The wording of this Python's OpenSSL: a new one must not make the table useless."""
    assert hasattr(ssl, "SSLCertVerificationError")
    for words, cause in (
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1)", "clock"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1)", "--ca-file"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: IP address mismatch", "another name"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "--cert-file"),
    ):
        assert cause in explain(Address("127.0.0.1", 1), words)
