"""Template of the file that `device card` and `device jetson` read: every table, with a comment on each key."""

from __future__ import annotations

import re

from devices.board import Board

_TEXT = """\
# Setup of one board, for `edgesem device card --config` and `edgesem device jetson prepare --config`.
# Fill in what stands between < and >, and delete what you do not need.

hostname = "cam-1"              # 1 to 63 of a-z, 0-9 and -; the stream is called after it
timezone = "UTC"                # such as "Europe/Zurich"

[user]                          # the first user, for ssh
name = "edge"
ssh_keys = ["<id_ed25519.pub>"] # public keys, or files with one each, relative to this file
# password_hash = "$6$..."      # of `openssl passwd -6`; without one the key is the only way in

# [wifi]                        # leave it out on a cable
# ssid = "<name of the network>"
# password_file = "<wifi.txt>"  # or password = "..."
# country = "<CH>"              # two capital letters: the radio stays off without
# hidden = false

[send.source]                   # as in the file of `edgesem send --config`
uri = "{source}"
width = 640
height = 480

[send.stream]
site = "home"
fps = 1.0
threads = {threads}

[send.broker]
host = "<broker.example.org>"
port = 1883
# user = "cam-1"
# password_file = "/etc/edgesem/mqtt.password"
# tls = true                    # and port = 8883
# ca_file = "/etc/edgesem/ca.pem"

# [send.seal]                   # seal the stream with a key that `edgesem key` made
# key_file = "/etc/edgesem/seal.key"

# [files]                       # name below /etc/edgesem on the board = file here
# "mqtt.password" = "<mqtt.password>"
# "ca.pem" = "<ca.pem>"
# "seal.key" = "<seal.key>"
"""


BLANKS = frozenset(re.findall(r'"(<[^"]+>)"', _TEXT))
"""What stands in it to be filled in."""


def template(board: Board | None = None) -> str:
    """The template, with the camera connector and the threads of a board."""
    known = board or Board()
    return _TEXT.format(source=known.camera.source, threads=known.run.threads if board else 1)
