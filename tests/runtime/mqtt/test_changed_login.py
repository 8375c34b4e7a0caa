"""Passwords and certificates that are changed while a daemon runs: its next connection uses the new ones."""

import os
import queue
import shutil
import subprocess
from pathlib import Path

import pytest

from edgesem.errors import InputError
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import Listening, end, find_tool, start_mosquitto
from runtime.mqtt.settings import BrokerSettings
from tests.support.edgesem_process import free_port
from tests.support.real_broker import wait_for_port

WAIT_S = 30
pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


class Ups:
    """Takes what a connection tells of its state."""

    def __init__(self):
        self.ups, self.downs = queue.Queue(), queue.Queue()

    def of(self, settings):
        told = {"on_up": lambda: self.ups.put(1), "on_down": self.downs.put}
        return Connection(settings.addresses(), name="x", retry=True, **told)


def broker(folder, port, users, **listening):
    """Mosquitto on `port`, with nothing kept of the one before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    process = start_mosquitto(Listening("127.0.0.1", port, users, **listening), folder, subprocess.DEVNULL)
    wait_for_port(port, process)
    return process


def private(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("whole_login", [False, True])
def test_another_password(tmp_path, monkeypatch, caplog, whole_login):
    monkeypatch.setattr("runtime.mqtt.connection._SHORTEST_WAIT_S", 0.05)
    port, told, file = free_port(), Ups(), private(tmp_path / "secret", "u:old" if whole_login else "old")
    named = {"login_file": file} if whole_login else {"user": "u", "password_file": file}
    process = broker(tmp_path / "broker", port, {"u": "old"})
    try:
        with told.of(BrokerSettings(port=port, **named)) as connection:
            told.ups.get(timeout=WAIT_S)
            file.unlink()  # while it is replaced, there may be none: the old one is used, and refused
            end(process)
            process = broker(tmp_path / "broker", port, {"u": "new", "v": "new"})
            told.downs.get(timeout=WAIT_S)
            private(file, "v:new" if whole_login else "new")
            told.ups.get(timeout=WAIT_S)
            assert connection.address.user == ("v" if whole_login else "u")
    finally:
        end(process)


def certificate(folder, name, days, ca=None):
    """A certificate that is its own CA, or that `ca` has signed; and its key."""
    made = folder / f"{name}.pem", folder / f"{name}.key"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} -subj /CN={name}".split()
    signed = [] if ca is None else ["-CA", ca[0], "-CAkey", ca[1]]
    subprocess.run(
        ["openssl", *words, "-addext", "subjectAltName=IP:127.0.0.1", *signed, "-out", made[0], "-keyout", made[1]],
        check=True,
        capture_output=True,
        timeout=WAIT_S,
    )
    return made


@needs_openssl
@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_ca_and_another_certificate_of_ours(tmp_path, monkeypatch):
    """The broker has got another certificate of another CA, and takes clients of that one alone."""
    monkeypatch.setattr("runtime.mqtt.connection._SHORTEST_WAIT_S", 0.05)
    old, new = certificate(tmp_path, "old", 2), certificate(tmp_path, "new", 2)
    files = [tmp_path / name for name in ("ca_file", "cert_file", "key_file")]
    port, told = free_port(), Ups()

    def install(cert, key):
        for file, source in zip(files, (cert, cert, key), strict=True):
            shutil.copy(source, file)

    def start(cert, key):
        return broker(tmp_path / "broker", port, {}, cert_file=cert, key_file=key, client_ca_file=cert)

    install(*old)
    process = start(*old)
    try:
        settings = BrokerSettings(port=port, tls=True, **{file.name: file for file in files})
        with told.of(settings):
            told.ups.get(timeout=WAIT_S)
            install(*new)
            end(process)
            process = start(*new)
            told.ups.get(timeout=WAIT_S)
    finally:
        end(process)


def test_a_pipe_is_read_once():
    read, write = os.pipe()
    os.write(write, b"secret\n")
    os.close(write)
    (address,) = BrokerSettings(user="u", password_file=Path(f"/dev/fd/{read}")).addresses()
    assert address.password == "secret"
    assert address.with_present_login() is address
    os.close(read)


@needs_openssl
def test_an_encrypted_key_is_not_asked_for_again(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:word", "-subj", "/CN=x", "-days", "2"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    address = Address("localhost", 8883, tls=True, cert_file=certificate, key_file=key)
    with pytest.raises(InputError, match="TLS files"):
        address.tls_context(asks=False)
