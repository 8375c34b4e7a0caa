"""Child processes of ours: what they say and how they end."""

import queue

from runtime.process.child import Child


def test_a_child_tells_of_itself_and_ends_when_its_stdin_closes(tmp_path):
    events = queue.Queue()
    job = {"fail": ""}
    with Child(name="echo", module="tests.support.echo_child", job=job, folder=tmp_path, events=events) as child:
        assert events.get(timeout=20)[1]["event"] == "ready"
        assert child.finish(timeout_s=10) == 0
    assert [events.get(timeout=10)[1]["event"] for _ in range(2)] == ["done", "exit"]


def test_a_child_that_fails_says_why(tmp_path):
    events = queue.Queue()
    job = {"fail": "no positive rate"}
    with Child(name="echo", module="tests.support.echo_child", job=job, folder=tmp_path, events=events):
        name, event = events.get(timeout=20)
    assert (name, event["event"]) == ("echo", "exit")
    assert event["code"] != 0
    assert "no positive rate" in event["words"]
