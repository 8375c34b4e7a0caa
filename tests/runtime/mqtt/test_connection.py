"""A connection to brokers that are slow, strict or wrong: it comes about, goes on, and says what is refused."""

import contextlib
import queue
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from edgesem.errors import LinkError, PacketError
from runtime.bench.relay import Relay
from runtime.mqtt import session as session_module
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker, find_tool
from tests.support.delay_line import DelayLine
from tests.support.edgesem_process import free_port
from tests.support.scripted_broker import ScriptedBroker

WAIT_S = 30
needs_mosquitto = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


def there(broker):
    return Address("127.0.0.1", broker.port)


def wait_for(condition):
    until_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_it_connects_at_long_round_trips_with_one_subscribe():
    with (
        ScriptedBroker(delay_s=2.0) as broker,
        Connection(replace(there(broker), version="5"), name="x", subscribe=("a", "b", "c/+")) as connection,
    ):
        assert broker.subscribes == [3]
        assert 1.9 < connection.rtt_s < 2.5


def test_no_subscribe_has_more_filters_than_aws_takes_and_all_are_answered_before_it_is_up():
    filters = [f"site/{number}/+" for number in range(20)]
    with (
        ScriptedBroker(delay_s=0.3) as broker,
        Connection(there(broker), name="x", subscribe=filters) as connection,
    ):
        assert broker.subscribes == [8, 8, 4]
        assert connection.rtt_s < 2
        connection.subscribe(*(f"other/{number}" for number in range(9)))
        wait_for(lambda: broker.subscribes == [8, 8, 4, 8, 1])


def test_a_dial_that_is_answered_on_the_way_does_not_hide_how_far_the_broker_is(monkeypatch):
    monkeypatch.setattr(session_module, "CONNECT_S", 1.5)
    with (
        ScriptedBroker(delay_s=1.0) as broker,
        Connection(replace(there(broker), version="5"), name="x", subscribe="a") as connection,
    ):
        assert connection.connected
        assert broker.subscribes == [1]


def test_on_a_short_way_the_round_trip_is_measured_without_more_subscriptions():
    with ScriptedBroker() as broker, Connection(there(broker), name="x", subscribe="a") as connection:
        assert broker.subscribes == [1]
        measured = queue.Queue()
        connection.measure_rtt(measured.put)
        assert 0 < measured.get(timeout=WAIT_S) < 5


@needs_mosquitto
def test_what_comes_before_the_connection_is_up_can_be_answered_and_followed():
    told, early = queue.Queue(), []

    def hear(topic, payload):
        if topic == "birth":
            early.append(not ups)
            with contextlib.suppress(LinkError):
                connection.publish("ack", b"late")
            connection.publish("ack", b"early", early=True)
            connection.subscribe("more")
        told.put((topic, payload))

    ups = []
    with Broker(kind="mosquitto") as broker, Connection(broker.address, name="other", subscribe="ack") as other:
        for topic in ("birth", "more"):
            confirmed = threading.Event()
            other.publish(topic, topic.encode(), retain=True, confirm=confirmed.set)
            assert confirmed.wait(WAIT_S)
        with DelayLine(("127.0.0.1", broker.address.port), 0.1) as line:  # so that round trips are measured for a while
            connection = Connection(
                replace(broker.address, port=line.port),
                name="x",
                subscribe=["birth", "ack"],
                on_message=hear,
                on_up=lambda: ups.append(1),
                retry=True,
            )
            with connection:
                heard = {told.get(timeout=WAIT_S) for _ in range(3)}
                assert early == [True]
                assert heard == {("birth", b"birth"), ("ack", b"early"), ("more", b"more")}


@needs_mosquitto
def test_filters_can_be_added_and_are_there_after_a_reconnect():
    arrived, ups = queue.Queue(), queue.Queue()
    with (
        Broker(kind="mosquitto") as broker,
        Connection(
            broker.address, name="x", subscribe="a", on_message=lambda *m: arrived.put(m), on_up=lambda: ups.put(1)
        ) as connection,
    ):
        ups.get(timeout=WAIT_S)
        connection.subscribe("b", "a")
        connection.publish("b", b"1")
        assert arrived.get(timeout=WAIT_S) == ("b", b"1")
        connection.reconnect("to see")
        ups.get(timeout=WAIT_S)
        connection.publish("b", b"2")
        assert arrived.get(timeout=WAIT_S) == ("b", b"2")


def test_a_refusal_is_no_confirmation():
    confirmed, refused = queue.Queue(), queue.Queue()
    with ScriptedBroker(puback_reason=0x87) as broker, Connection(there(broker), name="x") as connection:
        connection.publish("a", b"1", confirm=lambda: confirmed.put(1), refuse=refused.put)
        assert refused.get(timeout=WAIT_S) == "Not authorized"
        assert confirmed.empty()


def test_a_refusal_that_nobody_waits_for_is_logged_with_its_topic(caplog):
    with ScriptedBroker(puback_reason=0x97) as broker, Connection(there(broker), name="x") as connection:
        connection.publish("home/gate", b"1")
        wait_for(lambda: "refuses a message on home/gate: Quota exceeded" in caplog.text)


def test_a_connection_that_breaks_off_without_a_word_is_told_as_that(caplog):
    with ScriptedBroker() as broker, Connection(there(broker), name="x") as connection:
        connection.publish("a", b"1")
        broker.hang_up()
        wait_for(lambda: "it broke off: the broker or the link is gone" in caplog.text)


def test_a_topic_that_is_no_text_costs_a_log_line_and_no_thread(caplog):
    arrived = queue.Queue()
    with (
        ScriptedBroker() as broker,
        Connection(there(broker), name="x", subscribe="#", on_message=lambda *m: arrived.put(m)) as connection,
    ):
        broker.push(b"\xff\xfe", b"1")
        broker.push(b"good", b"2")
        assert arrived.get(timeout=WAIT_S) == ("good", b"2")
        assert connection.connected
    assert "could not be taken" in caplog.text


def test_defects_of_callbacks_end_neither_connection_nor_reconnecting():
    ups = queue.Queue()

    def fail(*_):
        ups.put(1)
        raise BrokenPipeError("stdout closed")

    def confirm():
        raise ValueError("a defect")

    with (
        ScriptedBroker() as broker,
        Connection(there(broker), name="x", subscribe="#", on_message=fail, on_up=fail, on_down=fail, retry=True) as it,
    ):
        for _ in range(2):
            ups.get(timeout=WAIT_S)
            wait_for(lambda: it.connected)
            it.publish("a", b"1", confirm=confirm)
            broker.push(b"a", b"1")
            ups.get(timeout=WAIT_S)
            broker.hang_up()
            ups.get(timeout=WAIT_S)
        wait_for(lambda: it.connected)
        assert it.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_network_thread_that_has_died_is_replaced():
    ups = queue.Queue()
    with (
        ScriptedBroker() as broker,
        Connection(there(broker), name="x", on_up=lambda: ups.put(1), retry=True) as connection,
    ):
        ups.get(timeout=WAIT_S)

        def die(*_):
            raise SystemExit

        client = connection._session._client
        client._loop = die  # a defect in the library
        broker.push(b"a", b"1")
        ups.get(timeout=WAIT_S)
        wait_for(lambda: connection.connected)
        client._reset_sockets()  # its traceback keeps it here


def test_threads_that_publish_at_once_do_not_mix_their_bytes():
    """More than the socket takes at a time, so that each message is written in parts."""
    messages = [(str(number), bytes([number]) * 300_000) for number in range(24)]
    with ScriptedBroker() as broker, Connection(there(broker), name="x") as connection:
        threads = [
            threading.Thread(target=lambda own=messages[start::4]: [connection.publish(*one) for one in own])
            for start in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: len(broker.published) == len(messages))
    assert sorted(one[:2] for one in broker.published) == sorted(messages)


def test_what_is_published_while_a_callback_runs_leaves_after_it():
    begun, go_on = threading.Event(), threading.Event()

    def on_message(topic, payload):
        begun.set()
        assert go_on.wait(WAIT_S)

    with ScriptedBroker() as broker, Connection(there(broker), name="x", on_message=on_message) as connection:
        broker.push(b"a", b"1")
        assert begun.wait(WAIT_S)
        connection.publish("b", b"2")
        go_on.set()
        wait_for(lambda: broker.published == [("b", b"2", 1, 0)])


def test_another_broker_of_the_older_version_is_reached(monkeypatch):
    monkeypatch.setattr(session_module, "CONNECT_S", 0.5)
    ups = queue.Queue()
    with (
        ScriptedBroker() as broker,
        Connection(there(broker), name="x", on_up=lambda: ups.put(1), retry=True) as connection,
    ):
        ups.get(timeout=WAIT_S)
        assert connection.version == "5"
        broker.versions = (4,)
        broker.hang_up()
        ups.get(timeout=WAIT_S)
        assert connection.version == "3.1.1"


def test_what_the_broker_says_of_its_limits_is_kept(caplog):
    # Maximum QoS 0, retain not available, at most 300 bytes
    strict = b"\x24\x00\x25\x00\x27" + (300).to_bytes(4, "big")
    with (
        ScriptedBroker(properties=strict, refuse_will=0x9A) as broker,
        Connection(there(broker), name="x", will=("state", b"gone")) as connection,
    ):
        confirmed = threading.Event()
        connection.publish("a", b"1" * 100, retain=True, confirm=confirmed.set)
        assert confirmed.wait(WAIT_S)
        wait_for(lambda: broker.published)
        assert broker.published == [("a", b"1" * 100, 0, 0)]
        assert connection.limit_bytes == 300
        with pytest.raises(PacketError, match="300 at most"):
            connection.publish("a", b"1" * 300)
    assert "no retained messages" in caplog.text
    assert "QoS 0 only" in caplog.text


def test_a_broker_that_has_learnt_to_retain_gets_a_retained_will_again(monkeypatch):
    monkeypatch.setattr("runtime.mqtt.connection._SHORTEST_WAIT_S", 0.05)
    ups = queue.Queue()
    with (
        ScriptedBroker(properties=b"\x25\x00", refuse_will=0x9A, versions=(5,)) as broker,
        Connection(there(broker), name="x", will=("state", b"gone"), on_up=lambda: ups.put(1), retry=True),
    ):
        ups.get(timeout=WAIT_S)
        assert broker.wills == [True, False]
        broker.properties, broker.refuse_will = b"", 0
        for _ in range(2):
            broker.hang_up()
            ups.get(timeout=WAIT_S)
        assert broker.wills[-1]


def test_no_more_is_in_flight_than_the_broker_takes():
    with (
        ScriptedBroker(properties=b"\x21\x00\x02") as broker,  # Receive Maximum 2
        Connection(there(broker), name="x") as connection,
    ):
        broker.confirms = False
        connection.publish("a", b"1")
        connection.publish("a", b"2")
        with pytest.raises(LinkError, match="2 messages at a time"):
            connection.publish("a", b"3")
        connection.publish("a", b"4", qos=0)


def test_a_broker_that_hangs_up_at_a_large_message_is_found_out(caplog, monkeypatch):
    monkeypatch.setattr("runtime.mqtt.connection._SHORTEST_WAIT_S", 0.05)
    ups = queue.Queue()
    with (
        ScriptedBroker(closes_at=4000) as broker,
        Connection(there(broker), name="x", on_up=lambda: ups.put(1), retry=True) as connection,
    ):
        for _ in range(12):
            ups.get(timeout=WAIT_S)
            wait_for(lambda: connection.connected)
            confirmed = threading.Event()
            connection.publish("a", bytes(1000), confirm=confirmed.set)
            assert confirmed.wait(WAIT_S)
            size_bytes = min(20_000, (connection.limit_bytes or 10**6) - 20)
            confirmed = threading.Event()
            with contextlib.suppress(LinkError):
                connection.publish("a", bytes(size_bytes), confirm=confirmed.set)
            wait_for(lambda confirmed=confirmed: confirmed.is_set() or not connection.connected)
            if confirmed.is_set():
                break
        assert 1000 < connection.limit_bytes <= 5000
        with pytest.raises(PacketError, match="at most"):
            connection.publish("a", bytes(20_000))
    assert len(broker.connects) < 8
    assert "larger ones than" in caplog.text


def publish_confirmed(connection, size_bytes):
    confirmed = threading.Event()
    connection.publish("a", bytes(size_bytes), confirm=confirmed.set)
    assert confirmed.wait(WAIT_S)


def test_a_broker_that_takes_less_than_it_did_is_found_out(monkeypatch):
    """Its limit was lowered, or another broker is there now: what the old one confirmed says nothing."""
    monkeypatch.setattr("runtime.mqtt.connection._SHORTEST_WAIT_S", 0.05)
    ups = queue.Queue()
    with (
        ScriptedBroker() as broker,
        Connection(there(broker), name="x", on_up=lambda: ups.put(1), retry=True) as connection,
    ):
        ups.get(timeout=WAIT_S)
        publish_confirmed(connection, 20_000)
        broker.closes_at = 4000
        for _ in range(12):
            publish_confirmed(connection, 100)
            confirmed = threading.Event()
            with contextlib.suppress(LinkError):
                size_bytes = min(20_000, (connection.limit_bytes or 10**6) - 20)
                connection.publish("a", bytes(size_bytes), confirm=confirmed.set)
            wait_for(lambda confirmed=confirmed: confirmed.is_set() or not ups.empty())
            if confirmed.is_set():
                break
            ups.get()
        assert confirmed.is_set()
        assert 512 <= connection.limit_bytes <= 4020
    assert len(broker.connects) < 12


def test_a_broker_that_fails_at_each_message_does_not_make_pictures_small(monkeypatch):
    """Mosquitto that is started again and again for some minutes must not cost an hour of poor pictures."""
    monkeypatch.setattr("runtime.mqtt.connection._SHORTEST_WAIT_S", 0.05)
    monkeypatch.setattr("runtime.mqtt.connection._LONGEST_WAIT_S", 0.05)
    ups = queue.Queue()
    with (
        ScriptedBroker() as broker,
        Connection(there(broker), name="x", on_up=lambda: ups.put(1), retry=True) as connection,
    ):
        ups.get(timeout=WAIT_S)
        publish_confirmed(connection, 20_000)
        broker.closes_at = 4000
        for _ in range(8):
            with contextlib.suppress(LinkError):
                connection.publish("a", bytes(20_000))
            ups.get(timeout=WAIT_S)
        assert connection.limit_bytes is None


@needs_mosquitto
def test_mosquittos_limit_of_messages_is_learnt(tmp_path, monkeypatch):
    """Its answer to a message that is too large is none that paho knows."""
    monkeypatch.setattr("runtime.mqtt.connection._SHORTEST_WAIT_S", 0.05)
    port, ups = free_port(), queue.Queue()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmessage_size_limit 3000\n")
    with (
        subprocess.Popen([find_tool("mosquitto"), "-c", config], stderr=subprocess.DEVNULL) as process,
        Connection(Address("127.0.0.1", port), name="x", on_up=lambda: ups.put(1), retry=True) as connection,
    ):
        try:
            delivered, size_bytes = threading.Event(), 0
            until_s = time.monotonic() + WAIT_S
            while not delivered.is_set() and time.monotonic() < until_s:
                size_bytes = min(20_000, (connection.limit_bytes or 10**6) - 20)
                with contextlib.suppress(LinkError):
                    connection.publish("a", bytes(size_bytes), confirm=delivered.set, refuse=lambda _: None)
                delivered.wait(0.2)
            assert delivered.is_set()
            assert 1000 < size_bytes <= 3000
            assert connection.reconnects < 8
        finally:
            process.terminate()


@needs_mosquitto
def test_a_message_of_many_keep_alives_is_delivered(monkeypatch):
    monkeypatch.setattr(session_module, "_KEEP_ALIVE_S", 2)
    confirmed, ups = threading.Event(), queue.Queue()
    with (
        Broker(kind="mosquitto") as broker,
        Relay(target=(broker.address.host, broker.address.port), rate_bps=50_000) as relay,
        Connection(
            replace(broker.address, port=relay.port), name="x", on_up=lambda: ups.put(1), retry=True
        ) as connection,
    ):
        ups.get(timeout=WAIT_S)
        connection.publish("a", bytes(60_000), confirm=confirmed.set)  # 10 s
        assert confirmed.wait(WAIT_S)
        assert connection.reconnects == 0
