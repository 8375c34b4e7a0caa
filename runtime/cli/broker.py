"""The command `edgesem broker`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesem.cli.console import say
from runtime.cli.event_output import log_to_stderr, print_json_line
from runtime.cli.options import ConfigOption, JsonLinesOption, StateDirOption


def broker(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="1883")] = None,
    users_file: Annotated[
        Path | None,
        typer.Option(
            help="File with a line name:password for each user.",
            show_default="a user edgesem with a new password, whose file is named",
        ),
    ] = None,
    cert_file: Annotated[
        Path | None, typer.Option(help="Certificate of the broker; with it, it speaks TLS only.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="Private key of the certificate.")] = None,
    client_ca_file: Annotated[
        Path | None, typer.Option(help="Admit only clients with a certificate of this CA, in place of passwords.")
    ] = None,
    state_dir: StateDirOption = None,
    kind: Annotated[
        str | None, typer.Option(help="Program to run: mosquitto or amqtt.", show_default="what is installed")
    ] = None,
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

    given: dict[str, Any] = {
        "kind": kind,
        "listen.host": host,
        "listen.port": port,
        "listen.users_file": users_file,
        "listen.cert_file": cert_file,
        "listen.key_file": key_file,
        "listen.client_ca_file": client_ca_file,
        "monitor.state_dir": state_dir,
    }
    settings = load_config(config, BrokerServiceSettings, given)
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
