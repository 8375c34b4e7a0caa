"""Agent on the board: takes in a release, switches to it, and switches back unless it proves itself.

These modules travel as one file, `agent.py`, which `devices.deployment.release` puts together from them. It is all that
a board needs besides its own Python (3.10 or later), so nothing here imports anything but the standard library. Under
ROOT/opt/edgesem it keeps

    blobs/<sha256>          files as they arrived, so that a cut transfer goes on where it stopped
    releases/<version>/     venv, bundle, units; counts only once release.json, written last, is there
    current                 a link to the release that runs
    state.json              what ran before
    pending.json            a switch that is still on probation
    lock                    one deployment at a time

A switch is on probation until the health check passed and whoever deploys has confirmed it over a living connection. If
anything happens before that, a cut link or a power cut too, the board goes back to what it ran before.
"""
