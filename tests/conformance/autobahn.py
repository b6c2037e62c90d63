"""Runs Autobahn's WebSocket cases against one server and prints what came of each as JSON.

    autobahn.py READING URL CASES EXCLUDED      ids or globs as in 7.*, with commas between them

Autobahn expects a server that echoes messages. A gateway to RFB carries bytes, so there are two readings:

published   the cases exactly as Autobahn publishes them;
bytes       what they send as text goes out as binary, and what comes back is compared as bytes: every byte
            has to be the one that was sent, and a case sees them cut where its messages ended, since a
            byte stream keeps no message boundaries. Control frames, fragmentation, malformed frames and
            close handshakes stay as published.

The cases come from the PyPI package kosoku, which drives Autobahn's own files on Python 3.
"""

import asyncio
import json
import os
import sys
from collections import deque

import kosoku
import kosoku.cases

sys.path.append(kosoku.cases.__path__[0])
from case import Case  # noqa: E402  (kosoku.cases has put it on the path)

TEXT, BINARY = 1, 2
CONTINUATION = 0

# Cases run side by side; most of them wait for a second more than they compute.
PARALLEL = 8

# What each case sent, by its id.
SENT = {}


class Recorder:
    """Stands between a case and its connection, and notes what messages the case sends."""

    def __init__(self, connection, sent):
        object.__setattr__(self, "connection", connection)
        object.__setattr__(self, "sent", sent)

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def __setattr__(self, name, value):
        setattr(self.connection, name, value)

    def sendFrame(self, opcode, payload="", fin=True, payload_len=None, **options):
        content = payload
        if payload_len is not None:
            options["payload_len"] = payload_len
            content = (payload * (payload_len // len(payload) + 1))[:payload_len] if payload else ""
        self.sent.fragment(opcode, content, fin)
        self.connection.sendFrame(opcode=self.opcode(opcode), payload=payload, fin=fin, **options)

    def sendMessage(self, payload, isBinary=False, **options):
        self.sent.fragment(BINARY if isBinary else TEXT, payload, True)
        self.connection.sendMessage(payload, isBinary=self.is_binary(isBinary), **options)

    def beginMessage(self, *arguments, **options):
        self.sent.text = True
        self.connection.beginMessage(*arguments, **options)

    def opcode(self, opcode):
        return opcode

    def is_binary(self, is_binary):
        return is_binary


class BytesOnly(Recorder):
    """The same, with text sent as binary."""

    def opcode(self, opcode):
        return BINARY if opcode == TEXT else opcode

    def is_binary(self, is_binary):
        return True

    @property
    def txFrameStats(self):
        # Group 10 counts the frames of its text message; they went out as binary.
        frames = dict(self.connection.txFrameStats)
        frames[TEXT] = frames.pop(BINARY, 0)
        return frames


class Sent:
    """The messages that a case has sent."""

    def __init__(self):
        self.text = False
        self.empty = False
        self.longest = 0  # characters, each of which is a byte
        self.messages = deque()  # (payload, is binary), until their echo is complete
        self.open = None  # the same for a message whose last fragment is still to come

    def fragment(self, opcode, payload, fin):
        if opcode in (TEXT, BINARY):
            self.text |= opcode == TEXT
            self.open = (payload, opcode == BINARY)
        elif opcode == CONTINUATION and self.open is not None:
            self.open = (self.open[0] + payload, self.open[1])
        else:
            return
        if fin:
            self.empty |= not self.open[0]
            self.longest = max(self.longest, len(self.open[0]))
            self.messages.append(self.open)
            self.open = None


class Altered(Exception):
    """What came back is not what was sent."""


def cut_at_sent_messages(sent, on_message):
    """A case's onMessage for bytes: collects them and hands on messages as they were sent."""
    received = []
    received_length = 0

    def on_bytes(data, _is_binary):
        nonlocal received, received_length
        received.append(data)
        received_length += len(data)
        while sent.messages and 0 < len(sent.messages[0][0]) <= received_length:
            payload, is_binary = sent.messages.popleft()
            stream = "".join(received)
            received, received_length = [stream[len(payload) :]], received_length - len(payload)
            if not stream.startswith(payload):
                raise Altered
            on_message(payload, is_binary)

    return on_bytes


def read_as(reading):
    """Has every case made from here on speak through a recorder."""
    original = Case.__init__

    def __init__(self, connection):
        sent = Sent()
        SENT[type(self).__name__] = sent
        if reading == "bytes":
            self.onMessage = cut_at_sent_messages(sent, self.onMessage)
            original(self, BytesOnly(connection, sent))
        else:
            original(self, Recorder(connection, sent))

    Case.__init__ = __init__


async def run(url, cases, excluded):
    try:
        return await kosoku.run_fuzzingclient(url, cases, excluded, concurrency=PARALLEL)
    except kosoku.FailureError as failure:
        return failure.results


def summary(result):
    sent = SENT["Case" + result.case_id.replace(".", "_")]
    return {
        "id": result.case_id,
        "behavior": result.behavior.value,
        "close": result.behavior_close.value,
        "close_code": result.remote_close_code,
        "sent_text": sent.text,
        "sent_empty": sent.empty,
        "longest_sent": sent.longest,
    }


def main():
    reading, url, cases, excluded = sys.argv[1:]
    read_as(reading)
    results = asyncio.run(run(url, cases.split(","), excluded.split(",")))
    print(json.dumps([summary(result) for result in results]), flush=True)
    # The runner's threads at times abort the interpreter while it ends; all that is wanted is out.
    os._exit(0)


if __name__ == "__main__":
    main()
