"""OpenStack Swift on loopback: a real object store, with its S3 protocol. Needs Debian's package python3-swift."""

import contextlib
import datetime
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest

from runtime.mqtt.mosquitto import end
from tests.support.edgesem_process import free_port
from tests.support.postgres import folder_of_nobody, unprivileged
from tests.support.real_broker import wait_for_port

_PYTHON = Path("/usr/bin/python3")  # Debian's, which has the package
_INSTALLED = Path("/usr/lib/python3/dist-packages/swift").is_dir()
needs_swift = pytest.mark.skipif(not _INSTALLED, reason="python3-swift is not installed")
_PARTS = ("account", "container", "object")
_STORE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
user = {user}
[pipeline:main]
pipeline = {part}-server
[app:{part}-server]
use = egg:swift#{part}
"""
_PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
user = {user}
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""
_RINGS = """
from swift.cli.ringbuilder import main
for part, port in {ports}.items():
    for words in (["create", "1", "1", "1"], ["add", f"r1z1-127.0.0.1:{{port}}/d1", "1"], ["rebalance"]):
        try:
            main(["swift-ring-builder", f"{folder}/{{part}}.builder", *words])
        except SystemExit:
            pass
"""
_SERVE = """
import sys
from swift.common import utils
utils.SWIFT_CONF_FILE = "{folder}/swift.conf"
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi("{folder}/{part}.conf", "{part}-server"))
"""
_QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": "/"}
KEYS = {"AWS_ACCESS_KEY_ID": "test:tester", "AWS_SECRET_ACCESS_KEY": "testing"}


class Swift:
    """One node of each kind, an account, and a bucket `pictures`; `env` has what an S3 client needs."""

    def __init__(self, folder):
        self._folder, self._servers, self._ports = folder, {}, {part: free_port() for part in (*_PARTS, "proxy")}
        self.env = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports['proxy']}", "AWS_REGION": "us-east-1"}
        (folder / "devices" / "d1").mkdir(parents=True)
        policy = "[swift-hash]\nswift_hash_path_suffix = tests\n[storage-policy:0]\nname = one\ndefault = yes\n"
        (folder / "swift.conf").write_text(policy)
        user = "nobody" if unprivileged() else os.environ.get("USER", "nobody")
        for part, port in self._ports.items():
            text = (_PROXY if part == "proxy" else _STORE).format(part=part, port=port, folder=folder, user=user)
            (folder / f"{part}.conf").write_text(text)
        program = _RINGS.format(ports={part: self._ports[part] for part in _PARTS}, folder=folder)
        subprocess.run([_PYTHON, "-c", program], check=True, **_QUIET)
        who = unprivileged()
        for path in (folder, *folder.rglob("*")) if who else ():
            os.chown(path, who["user"], who["group"])
        try:
            self.start(*self._ports)
            self._make_bucket()
        except BaseException:
            self.end()
            raise

    def start(self, *parts):
        """Start some of its parts: `proxy` is the one that clients speak to."""
        for part in parts:
            program = _SERVE.format(part=part, folder=self._folder)
            self._servers[part] = subprocess.Popen([_PYTHON, "-c", program], **_QUIET, **unprivileged())
        for part in parts:
            wait_for_port(self._ports[part], self._servers[part])

    def kill(self, part):
        """Kill one of its parts without a word."""
        server = self._servers.pop(part)
        server.kill()
        server.wait()

    def _make_bucket(self):
        import obstore
        from obstore.store import S3Store

        store = S3Store(
            "pictures",
            endpoint=self.env["AWS_ENDPOINT_URL"],
            access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region="us-east-1",
            client_options={"allow_http": True},
        )
        url = obstore.sign(store, "PUT", "", datetime.timedelta(minutes=5))
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", data=b""), timeout=30).close()

    def end(self):
        for server in self._servers.values():
            end(server)
        self._servers = {}


@contextlib.contextmanager
def running_swift():
    """A store that ends with the context."""
    with folder_of_nobody() as folder:
        store = Swift(folder)
        try:
            yield store
        finally:
            store.end()
