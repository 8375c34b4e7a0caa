"""Start of the add-on: Home Assistant's options and its broker's login become settings of `edgesem receive`.

Options are in /data/options.json, the login comes from the Supervisor; both are described in Home Assistant's
documents for add-ons. Everything that must last is in /data.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

_ANSWER_S = 30.0
_OUT = ("home_assistant", "stamp", "max_age", "archive_max_bytes")
"""Options of the section `[out]`, under the same names."""


def main() -> None:
    """Write the settings and become the receiver. Exit code 1 with a line that says why, if there is no broker."""
    data = Path(os.environ.get("EDGESEM_DATA", "/data"))
    supervisor = os.environ.get("EDGESEM_SUPERVISOR", "http://supervisor")
    try:
        login = mqtt_login(supervisor, os.environ.get("SUPERVISOR_TOKEN", ""))
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"no MQTT broker from the Supervisor: {error}: install the add-on Mosquitto broker, then start again")
    password = data / "password"
    password.unlink(missing_ok=True)
    with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(login["password"])
    options = json.loads((data / "options.json").read_text("utf-8"))
    (data / "receive.toml").write_text(settings(options, login, data), "utf-8")
    os.environ["STATE_DIRECTORY"] = str(data)
    os.execvp("edgesem", ["edgesem", "receive", "--config", str(data / "receive.toml")])


def mqtt_login(supervisor: str, token: str) -> dict[str, Any]:
    """What the Supervisor says of the broker: host, port, username, password, ssl. OSError if it says nothing."""
    request = urllib.request.Request(f"{supervisor}/services/mqtt", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
        login: dict[str, Any] = json.load(answer)["data"]
    return {name: login[name] for name in ("host", "port", "username", "password", "ssl")}


def settings(options: dict[str, Any], login: dict[str, Any], data: Path) -> str:
    """The receiver's TOML file."""
    broker = {
        "host": login["host"],
        "port": login["port"],
        "user": login["username"],
        "password_file": str(data / "password"),
        "tls": login["ssl"],
    }
    out = {
        "folder": str(data / "received"),
        "http": "0.0.0.0:8480",
        **{name: options[name] for name in _OUT if name in options},
    }
    sections = {"broker": broker, "draw": {"steps": options["steps"]}, "out": out}
    lines = [f"streams = {_toml(options['streams'])}"]
    for section, values in sections.items():
        lines += ["", f"[{section}]", *(f"{name} = {_toml(value)}" for name, value in values.items())]
    return "\n".join([*lines, ""])


def _toml(value: Any) -> str:
    """A string, number, boolean or list of them, which TOML writes as JSON does, but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


if __name__ == "__main__":
    main()
