"""A broker of a few dozen lines that behaves as a test says: slow, strict, or wrong."""

import contextlib
import socket
import threading
import time


class ScriptedBroker:
    """Speaks enough MQTT for one client at a time; answers come `delay_s` later.

    versions: of MQTT that it accepts. properties: of its CONNACK in MQTT 5. refuse_will: reason code of a CONNACK for a
    will that is retained or above QoS 0. puback_reason: answer to each PUBLISH above QoS 0. closes_at: it hangs up
    without a word when a packet has more bytes. `confirms`: whether it sends PUBACKs.
    """

    def __init__(self, *, delay_s=0.0, versions=(5, 4), properties=b"", refuse_will=0, puback_reason=0, closes_at=None):
        self.delay_s, self.versions, self.properties = delay_s, versions, properties
        self.refuse_will, self.puback_reason, self.closes_at = refuse_will, puback_reason, closes_at
        self.confirms = True
        self.connects, self.subscribes, self.published = [], [], []
        self.wills = []
        """Of each CONNECT, whether it has a will that is retained."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
        self.hang_up()

    def hang_up(self):
        """End all connections."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._sockets.clear()

    def push(self, topic, payload, version=5):
        """Publish to the client, with QoS 0; `topic` are bytes."""
        body = len(topic).to_bytes(2, "big") + topic + (b"\0" if version == 5 else b"") + payload
        self._sockets[-1].sendall(b"\x30" + _varint(len(body)) + body)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._sockets.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        version = 4
        with contextlib.suppress(OSError, EOFError, IndexError):
            while True:
                head, body = _read(sock)
                kind = head >> 4
                if self.closes_at is not None and len(body) > self.closes_at:
                    break
                if kind == 1:
                    version, flags = body[6], body[7]
                    self.connects.append((version, time.monotonic()))
                    self.wills.append(bool(flags & 0x20))
                    if version not in self.versions:
                        continue  # it falls silent, as amqtt does
                    refused = self.refuse_will if flags & 0x38 else 0
                    extra = _varint(len(self.properties)) + self.properties if version == 5 else b""
                    self._answer(sock, 0x20, bytes([0, refused]) + extra)
                    if refused:
                        break
                elif kind in (8, 10):
                    count = 1 if kind == 10 else _topics_in(body[3 if version == 5 else 2 :])
                    if kind == 8:
                        self.subscribes.append(count)
                    reasons = b"" if kind == 10 and version == 4 else bytes(count)
                    self._answer(
                        sock, 0x90 if kind == 8 else 0xB0, body[:2] + (b"\0" if version == 5 else b"") + reasons
                    )
                elif kind == 3:
                    self._take(sock, head, body, version)
                elif kind == 12:
                    self._answer(sock, 0xD0, b"")
        sock.close()

    def _take(self, sock, head, body, version):
        size = int.from_bytes(body[:2], "big")
        qos, rest = head >> 1 & 3, body[2 + size :]
        if qos:
            mid, rest = rest[:2], rest[2:]
        payload = rest[1:] if version == 5 else rest
        self.published.append((body[2 : 2 + size].decode(), payload, qos, head & 1))
        if qos and self.confirms:
            reason = bytes([self.puback_reason, 0]) if version == 5 and self.puback_reason else b""
            self._answer(sock, 0x40, mid + reason)

    def _answer(self, sock, head, body):
        def send():
            with contextlib.suppress(OSError):
                sock.sendall(bytes([head]) + _varint(len(body)) + body)

        if self.delay_s:
            threading.Timer(self.delay_s, send).start()
        else:
            send()


def _topics_in(body):
    count = 0
    while body:
        body = body[2 + int.from_bytes(body[:2], "big") + 1 :]
        count += 1
    return count


def _varint(number):
    data = b""
    while True:
        number, low = number >> 7, number & 127
        data += bytes([low | (128 if number else 0)])
        if not number:
            return data


def _read(sock):
    head = _exactly(sock, 1)[0]
    size = shift = 0
    while True:
        byte = _exactly(sock, 1)[0]
        size |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return head, _exactly(sock, size)


def _exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
