"""The command `edgesem broker`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesem.cli.console import log


def broker(
    config: Annotated[Path | None, typer.Option(help="TOML file with the same settings; flags go before it.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="1883")] = None,
    users_file: Annotated[
        Path | None,
        typer.Option(
            help="Lines of name:password.", show_default="user edgesem, a password is made and its file named"
        ),
    ] = None,
    cert_file: Annotated[Path | None, typer.Option(help="The broker's certificate: TLS only.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    client_ca_file: Annotated[
        Path | None, typer.Option(help="Let in only clients with a certificate of this CA; no passwords then.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder of what must survive a restart.", show_default="by systemd/XDG")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="mosquitto or amqtt.", show_default="what is installed")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")] = False,
) -> None:
    """Run an MQTT broker that lets nobody in without a password or a certificate, and start it again if it dies.

    Supervises mosquitto where it is installed; otherwise amqtt, which keeps nothing over a restart. Listens on loopback
    only unless --host says otherwise. Ends with SIGTERM or Ctrl-C.

    Example: edgesem broker --port 1884
    """
    from edgesem.config import load_config
    from runtime.daemon.broker import BrokerServiceSettings, run_broker

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
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)

    def tell(**event: Any) -> None:
        if json_:
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()
            return
        way = f"--user {event['users'][0]} --password-file {event['password_file']}" if event["password_file"] else ""
        log.print(f"{event['kind']} on {event['host']}:{event['port']} {way}", highlight=False, soft_wrap=True)

    run_broker(settings, tell)
