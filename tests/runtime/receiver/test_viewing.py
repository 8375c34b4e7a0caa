"""Viewing: the senders on demand are told at once that somebody watches."""

import threading

from runtime.receiver import viewing as viewing_module
from runtime.receiver.viewing import Viewing
from tests.support.publishing import DEADLINE_S


def test_who_comes_while_the_senders_are_told_is_told_of_at_once(monkeypatch):
    monkeypatch.setattr(viewing_module, "_LOOK_AGAIN_S", 3600.0)
    rounds, again = [], threading.Event()

    def streams():
        rounds.append(None)
        if len(rounds) == 1:
            viewing.look("home/yard/main", 3600.0)  # after the first look, and before the thread waits
        else:
            again.set()
        return []

    viewing = Viewing(streams, lambda *_: None)
    viewing.look("home/gate/main", 3600.0)
    try:
        assert again.wait(DEADLINE_S)
    finally:
        viewing.close()
