"""RabbitMQ with its MQTT plugin as a cluster of real nodes on loopback, whose data and name server are its own."""

import os
import signal
import subprocess
from pathlib import Path

from runtime.mqtt.mosquitto import end, find_tool
from tests.support.edgesem_process import free_port
from tests.support.real_broker import wait_for_port

# Debian's own start script would change to the user `rabbitmq`; this is what it starts.
FOLDER = Path("/usr/lib/rabbitmq/bin")
SERVER, CTL = FOLDER / "rabbitmq-server", FOLDER / "rabbitmqctl"
EPMD = find_tool("epmd")
START_S = 240
_QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
_SETTINGS = """
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = false
load_definitions = {definitions}
disk_free_limit.absolute = 1MB
cluster_formation.peer_discovery_backend = classic_config
{nodes}
"""


class RabbitCluster:
    """`count` nodes of one cluster. `definitions` is the file that `edgesem fleet accounts` makes."""

    def __init__(self, folder, definitions, count=3):
        self._folder, self._names = folder, free_port()
        self.ports = [free_port() for _ in range(count)]
        self._dist = [free_port() for _ in range(count)]
        nodes = [f"cluster_formation.classic_config.nodes.{n + 1} = {self._node(n)}" for n in range(count)]
        (folder / "home").mkdir(parents=True)
        (folder / "home" / ".erlang.cookie").write_text("edgesem-tests")
        (folder / "home" / ".erlang.cookie").chmod(0o600)
        (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        for number, port in enumerate(self.ports):
            text = _SETTINGS.format(port=port, definitions=definitions, nodes="\n".join(nodes))
            (folder / f"rabbit{number}.conf").write_text(text)
        self._epmd = subprocess.Popen([EPMD, "-port", str(self._names), "-address", "127.0.0.1"], **_QUIET)
        self._servers = {}
        try:
            for number in range(count):
                self.start(number)
        except BaseException:
            self.end()
            raise

    @staticmethod
    def _node(number):
        return f"edgesem{number}@localhost"

    def _env(self, number):
        home = self._folder / "home"
        return {
            **os.environ,
            "HOME": str(home),
            "RABBITMQ_MNESIA_BASE": str(self._folder / f"data{number}"),
            "RABBITMQ_LOG_BASE": str(self._folder / f"log{number}"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names),
            "RABBITMQ_NODENAME": self._node(number),
            "RABBITMQ_CONFIG_FILE": str(self._folder / f"rabbit{number}.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(self._dist[number]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
        }

    def start(self, number):
        """Start a node, and wait until clients can come."""
        server = subprocess.Popen([str(SERVER)], env=self._env(number), start_new_session=True, **_QUIET)
        self._servers[number] = server
        wait_for_port(self.ports[number], server, START_S)

    def kill(self, number):
        """Kill a node without a word."""
        server = self._servers.pop(number)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def running(self):
        """How many nodes run, as one that does says."""
        number = next(iter(self._servers))
        argv = [str(CTL), "-n", self._node(number), "eval", "length(rabbit_nodes:all_running())."]
        done = subprocess.run(argv, env=self._env(number), capture_output=True, text=True, timeout=START_S)
        return int(done.stdout.strip().splitlines()[-1])

    def end(self):
        for server in self._servers.values():
            end(server)
        end(self._epmd)
