"""The command `edgesem broker`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesem.cli.console import say
from runtime.cli.event_output import log_to_stderr, print_json_line
from runtime.cli.options import ConfigOption, Flag, Given, JsonLinesOption, StateDirOption, setting_options

_FLAGS = {
    "--host": Flag("listen.host", str, "Address to listen on.", "127.0.0.1"),
    "--port": Flag("listen.port", int, "Port to listen on.", "1883"),
    "--users-file": Flag(
        "listen.users_file",
        Path,
        "File with a line name:password for each user.",
        "a user edgesem with a new password, whose file is named",
    ),
    "--cert-file": Flag("listen.cert_file", Path, "Certificate of the broker; with it, it speaks TLS only."),
    "--key-file": Flag("listen.key_file", Path, "Private key of the certificate."),
    "--client-ca-file": Flag(
        "listen.client_ca_file", Path, "Admit only clients with a certificate of this CA, in place of passwords."
    ),
    "--kind": Flag("kind", str, "Program to run: mosquitto or amqtt.", "what is installed"),
}


@setting_options(_FLAGS)
def broker(
    config: ConfigOption = None,
    *,
    given: Given,
    state_dir: StateDirOption = None,
    json_: JsonLinesOption = False,
) -> None:
    """Run an MQTT broker that admits only clients with a password or a certificate.

    Commands of the same user on this machine find its login by themselves. For devices, `edgesem account add` makes
    accounts that may use their own topics only. Supervises mosquitto where it is installed, and starts it again if it
    dies; otherwise runs amqtt, which keeps nothing over a restart and has no accounts. Listens on loopback unless
    --host says otherwise. Ends with SIGTERM or Ctrl-C.

    Example: edgesem broker --port 1884
    """
    from edgesem.config import load_config
    from runtime.daemon.accounts import LOCAL_USER
    from runtime.daemon.broker import run_broker
    from runtime.daemon.broker_settings import BrokerServiceSettings

    settings = load_config(config, BrokerServiceSettings, {**given, "monitor.state_dir": state_dir})
    log_to_stderr()

    def show(event: Mapping[str, Any]) -> None:
        lines = [f"{event['kind']} on {event['host']}:{event['port']}{', TLS' if event['tls'] else ''}"]
        if event["credentials_file"]:
            lines.append("commands of this user on this machine find the login by themselves")
        if event["password_file"]:
            lines.append(f"elsewhere: --user {LOCAL_USER}, --password-file with the line in {event['password_file']}")
        if len(event["users"]) > 1:
            lines.append(f"accounts: {', '.join(event['users'])}")
        say("\n".join(lines))

    run_broker(settings, print_json_line if json_ else show)
