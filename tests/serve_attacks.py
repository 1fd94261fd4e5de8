"""What hostile and broken clients send a server: requests, frames and bytes drawn at random.

tests/serve/test_fuzz_frames.py runs them for a short while, tests/fuzz/fuzz_serve.py for as long as
one likes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import os
import random
import re
import socket
import struct

PATIENCE, QUIET = 2.0, 0.2  # seconds that an attacker waits for an answer, and for more of it
HEADER = struct.Struct("<QQ")  # position, received
PATHS = (
    *("/", "/docs", "/openapi.json", "/metrics", "/v2", "/v2/", "/v2/health/live"),
    *("/v2/health/ready", "/v2/models/two", "/v2/models/two/ready", "/v2/models/none"),
    *("/v2/models/two/versions/0", "/v2/models/two/infer", "/v2/models/pooled/infer"),
    *("/v2/models/embedded/infer", "/v2/fastrnn/models", "/v2/fastrnn/stats"),
    *("/v2/models/two/stream", "/v2/models/text/generate", "/page/main.js"),
)
ODD_PATHS = (
    *("/../../etc/passwd", "/page/../page.py", "/page/%2e%2e%2fpage.py", "/page/..%5c", "//", "*"),
    *("/v2/models/..%2f..%2fetc/ready", "/v2/models/%00/ready", "/v2/models/%ff%fe/ready"),
    *(
        "/v2/models/%ed%a0%80",
        "/v2/models/\xff\xfe",
        "/%",
        "/%zz",
        "http://evil/v2",
        "/?" + "a" * 9000,
    ),
    *("/v2/models/two/versions/%ed%b0%80/infer", "/v2/models/a%0d%0aX-Evil:%201", "/#", "/;", "/é"),
)
METHODS = (
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "BREW",
    "",
)
NUMBERS = (0, -1, 1, 2, 3, 2**31 - 1, 2**31, 2**63, 2**64 - 1, 2**64, 10**400, 0.5, 1e308, -1e308)
THINGS = (
    None,
    True,
    False,
    "",
    "a",
    "\x00",
    "\ud800",
    "é",
    "FP32",
    [],
    {},
    [[]],
    {"": []},
    *NUMBERS,
)


class Peer:
    """One connection, which sends whatever it is told to."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self.received = b""

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, server):
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 20)
        peer = cls(reader, writer)
        try:
            yield peer
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            pass  # what a server may do to an attacker
        finally:
            writer.transport.abort()

    async def send(self, data):
        self._writer.write(data)
        # A server that takes no more is left to it.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._writer.drain(), QUIET)

    async def listen(self):
        """Return all that comes until the end, or until nothing more does."""
        with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
            while part := await asyncio.wait_for(
                self._reader.read(65536), QUIET if self.received else PATIENCE
            ):
                self.received = (self.received + part)[-1_000_000:]
        return self.received

    def reset(self):
        """Go away without a word, as a machine that lost its power and came back."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )

    async def upgrade(self, path, *headers):
        """Ask for a WebSocket; return the status."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            *("Host: localhost", "Upgrade: websocket", "Connection: Upgrade"),
            *(f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", *headers, "", ""),
        ]
        await self.send("\r\n".join(lines).encode("latin-1"))
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), PATIENCE)
        self.received += head
        return int(head.split()[1])

    async def message(self):
        """Return the next message of a WebSocket."""
        first, size = await asyncio.wait_for(self._reader.readexactly(2), 10)
        if size == 126:
            (size,) = struct.unpack(">H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
        payload = await self._reader.readexactly(size)
        if first & 15 == 8:
            raise ConnectionError("closed")
        return payload


def frame(payload, opcode=2, fin=True, reserved=0, masked=True, size=None):
    """Return a frame of a WebSocket, right or wrong."""
    payload = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    size = len(payload) if size is None else size
    first = fin << 7 | reserved << 4 | opcode
    mask = masked << 7
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 1 << 16:
        head = bytes([first, mask | 126]) + struct.pack(">H", size)
    else:
        head = bytes([first, mask | 127]) + struct.pack(">Q", size)
    return head + bytes(4 * masked) + payload  # a mask of zeros


def text_frame(value):
    return frame(value if isinstance(value, str) else json.dumps(value), 1)


def mutated(data, r):
    """Return bytes with some of them changed, lost, doubled or new."""
    data = bytearray(data)
    for _ in range(r.randint(1, 8)):
        at = r.randrange(len(data) + 1)
        kind = r.randrange(5)
        if kind == 0:
            data[at:at] = r.randbytes(r.randint(1, 8))
        elif kind == 1:
            del data[at : at + r.randint(1, 20)]
        elif kind == 2:
            data[at:at] = data[at : at + r.randint(1, 200)]
        elif kind == 3:
            data[at:at] = r.choice(
                (b"\r\n", b"\n", b"\0", b":", b" ", b"\xff", b"99999999999", b"-")
            )
        elif at < len(data):
            data[at] ^= 1 << r.randrange(8)
    return bytes(data)


# --- HTTP -----------------------------------------------------------------------------------------


def request(method, path, headers=(), body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def infer_request(r):
    """Return a good request for an inference, as JSON or with bytes."""
    T = r.randint(1, 5)
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, T, 5]}
    values = [r.uniform(-1, 1) for _ in range(5 * T)]
    if r.random() < 0.5:
        body = json.dumps({"inputs": [tensor | {"data": values}]}).encode()
        return body, []
    tensor["parameters"] = {"binary_data_size": 20 * T}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = [f"Inference-Header-Content-Length: {len(head)}"]
    return head + struct.pack(f"<{5 * T}f", *values), length


def infer_bytes(r, body=None, headers=(), length=None):
    good, more = infer_request(r)
    body, headers = (good, more) if body is None else (body, headers)
    length = len(body) if length is None else length
    model = r.choice(("two", "pooled", "embedded", "double", "text"))
    return request(
        "POST", f"/v2/models/{model}/infer", [*headers, f"Content-Length: {length}"], body
    )


async def random_bytes(server, r):
    async with Peer.to(server) as peer:
        await peer.send(r.randbytes(r.randint(1, 4000)))
        return await peer.listen()


async def odd_requests(server, r):
    async with Peer.to(server) as peer:
        for _ in range(r.randint(1, 20)):
            headers = r.sample(ODD_HEADERS, r.randint(0, 4))
            path = r.choice(PATHS + ODD_PATHS).encode("utf-8").decode("latin-1")
            await peer.send(request(r.choice(METHODS), path, headers))
        return await peer.listen()


ODD_HEADERS = (
    *(
        "Connection: close",
        "Connection: upgrade",
        "Upgrade: h2c",
        "Upgrade: websocket",
        "Expect: 100-continue",
    ),
    *(
        "Host: evil.example",
        "Origin: http://evil.example",
        "Origin: null",
        "Authorization: Bearer",
        "X: \xff\xfe",
    ),
    *(
        "Authorization: Basic Og==",
        "Authorization: Bearer \xff" + "a" * 5000,
        "Accept-Encoding: gzip;q=x,,;",
    ),
    *(
        "Content-Length: 0",
        "Content-Length: 5",
        "Content-Length: -5",
        "Content-Length: 99999999999999999999",
    ),
    *(
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Encoding: br",
        "A\x00: b",
    ),
    *(
        "Inference-Header-Content-Length: " + "9" * 5000,
        "Inference-Header-Content-Length: -1",
        " folded: a",
    ),
    *(
        'If-None-Match: W/,"',
        "X-Forwarded-For: 1.2.3.4, \xff",
        "Range: bytes=0-",
        "Content-Type: \xff/x",
    ),
)


async def mutated_requests(server, r):
    async with Peer.to(server) as peer:
        for _ in range(r.randint(1, 5)):
            await peer.send(mutated(infer_bytes(r), r))
        return await peer.listen()


async def wrong_lengths(server, r):
    body, headers = infer_request(r)
    wrong = r.choice(
        (0, 1, len(body) - 1, len(body) + 1, 10**6, 10**18, 10**30, -1, "+5", "0x10", "1,1")
    )
    async with Peer.to(server) as peer:
        await peer.send(infer_bytes(r, body, headers, wrong))
        return await peer.listen()


async def wrong_chunks(server, r):
    async with Peer.to(server) as peer:
        await peer.send(request("POST", "/v2/models/two/infer", ["Transfer-Encoding: chunked"]))
        for _ in range(r.randint(1, 30)):
            size = r.choice(
                (b"1", b"5", b"ffffffffffffffffff", b"-1", b"", b"zz", b"5;x=" + b"y" * 3000)
            )
            await peer.send(size + b"\r\n" + r.randbytes(r.randint(0, 9)) + b"\r\n")
        await peer.send(b"0\r\n" + b"X-Trailer: a\r\n" * r.randint(0, 3000) + b"\r\n")
        return await peer.listen()


async def wrong_tensors(server, r):
    def thing(depth=0):
        if r.random() < 0.3 and depth < 4:
            return [thing(depth + 1) for _ in range(r.randint(0, 4))]
        return r.choice(THINGS)

    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 2, 5], "data": [0.5] * 10}
    body = {"inputs": [tensor], "outputs": [{"name": "output"}], "id": "a"}
    for _ in range(r.randint(1, 3)):
        place = r.choice((tensor, body))
        place[r.choice((*place, "parameters", "new"))] = r.choice(
            (thing(), [thing(), thing(), thing()], {"binary_data_size": thing()})
        )
    data = json.dumps(body).encode()
    kind = r.randrange(6)
    if kind == 0:
        data = b'{"inputs":' + b"[" * r.choice((100, 1000, 50_000)) + data
    elif kind == 1:
        data = data.replace(b"0.5", r.choice((b"NaN", b"1e999", b"Infinity", b"9" * 5000, b"\xff")))
    headers = [f"Inference-Header-Content-Length: {r.choice((*NUMBERS[:10], len(data), ''))}"]
    async with Peer.to(server) as peer:
        await peer.send(infer_bytes(r, data, headers * r.randint(0, 1)))
        return await peer.listen()


BOMB = gzip.compress(bytes(50_000_000), 9)


async def packed_bodies(server, r):
    good, _ = infer_request(r)
    data = r.choice((BOMB, BOMB[:20_000], gzip.compress(good), gzip.compress(good) * 2, good, b""))
    data = mutated(data, r) if r.random() < 0.3 else data
    kind = r.choice(("gzip", "deflate", "br", "gzip, gzip", "identity", "\xff", ""))
    async with Peer.to(server) as peer:
        await peer.send(infer_bytes(r, data, [f"Content-Encoding: {kind}"]))
        return await peer.listen()


async def slow_bytes(server, r):
    async with Peer.to(server) as peer:
        for byte in infer_bytes(r)[: r.randint(5, 40)]:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.02)
        return await peer.listen()


async def vanish(server, r):
    """Ask for much, and go; or be half gone."""
    T = 200
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, T, 5], "data": [0.1] * (5 * T)}
    body = json.dumps({"inputs": [tensor]}).encode()
    async with Peer.to(server) as peer:
        await peer.send(infer_bytes(r, body, ["Accept-Encoding: gzip"]) * r.randint(1, 20))
        if r.random() < 0.3:
            peer.reset()
        elif r.random() < 0.5:
            peer._writer.write_eof()
            return await peer.listen()


async def never_read(server, r):
    async with Peer.to(server) as peer:
        for _ in range(5):
            await peer.send(request("GET", r.choice(PATHS)) * 20)
        await asyncio.sleep(QUIET)


# --- WebSockets -----------------------------------------------------------------------------------


async def handshakes(server, r):
    bearer = "bearer." + base64.urlsafe_b64encode(r.randbytes(r.randint(0, 60))).decode().rstrip(
        "="
    )
    odd = (
        *(
            "Sec-WebSocket-Version: 12",
            "Sec-WebSocket-Key: a",
            "Sec-WebSocket-Protocol: fastrnn, " + bearer,
        ),
        *(
            "Sec-WebSocket-Protocol: ,,, \xff",
            "Sec-WebSocket-Extensions: permessage-deflate; x=\xff",
        ),
        *(
            "Sec-WebSocket-Protocol: " + "a," * 3000,
            "Origin: http://evil.example",
            "Host: evil.example",
        ),
        *(
            "Content-Length: 10",
            "Transfer-Encoding: chunked",
            "Authorization: Bearer \xff",
            "Upgrade: h2c",
        ),
    )
    paths = (
        "/v2/models/two/stream",
        "/v2/models/text/generate",
        "/v2/models/none/stream",
        "/metrics",
    )
    path = r.choice((*paths, *ODD_PATHS)).encode("utf-8").decode("latin-1")
    async with Peer.to(server) as peer:
        with contextlib.suppress(asyncio.TimeoutError):
            await peer.upgrade(path, *r.sample(odd, r.randint(0, 3)))
        await peer.send(r.randbytes(r.randint(0, 300)))
        return await peer.listen()


def odd_frames(r):
    """Return a frame that any WebSocket may get."""
    payload = r.randbytes(r.choice((0, 1, 100, 125, 126, 5000)))
    return r.choice(
        (
            lambda: r.randbytes(r.randint(1, 100)),
            lambda: frame(payload, r.randrange(16), r.random() < 0.5, r.randrange(8)),
            lambda: frame(payload, r.choice((1, 2)), masked=False),
            lambda: frame(payload, 2, size=r.choice((2**16, 2**31, 2**63 - 1, 2**64 - 1))),
            lambda: frame(b"\xff\xfe\xed\xa0\x80", 1),
            lambda: frame(b"a" * 100_000, r.choice((1, 2))),
            lambda: frame(payload[:125], 9) * r.randint(1, 200),
            lambda: frame(payload[:125], 10) * 20,
            lambda: frame(struct.pack(">H", r.choice((0, 999, 1000, 1005, 1015, 4999, 65535))), 8),
            lambda: frame(b"a", 1, fin=False) + frame(b"", 0, fin=False) * r.randint(1, 500),
            lambda: frame(b"a", 0),
            lambda: text_frame("[" * 4000),
            lambda: text_frame('{"a":' * 700),
            lambda: text_frame(json.dumps({"type": r.choice(THINGS)})),
            lambda: text_frame("9" * 4096),
        )
    )()


def steps(r, position=0, received=0, count=None):
    count = r.randint(1, 5) if count is None else count
    values = struct.pack(f"<{5 * count}f", *(r.uniform(-1, 1) for _ in range(5 * count)))
    if r.random() < 0.1:
        values = struct.pack("<f", r.choice((float("nan"), float("inf"), 3e38))) * (5 * count)
    return frame(HEADER.pack(position, received) + values)


async def streams(server, r):
    """Open a session, and break the protocol sooner or later."""
    async with Peer.to(server) as peer:
        if await peer.upgrade("/v2/models/two/stream") != 101:
            return peer.received
        if r.random() < 0.2:
            await peer.send(odd_frames(r) if r.random() < 0.5 else text_frame(_odd_opening(r)))
            return await peer.listen()
        await peer.send(text_frame({"type": "open"}))
        opened = json.loads(await peer.message())
        if opened["type"] != "opened":
            return peer.received
        position = 0
        for _ in range(r.randint(0, 8)):
            if r.random() < 0.5:
                count = r.randint(1, 5)
                await peer.send(steps(r, position, position, count))
                await peer.message()
                position += count
                continue
            await peer.send(_odd_step(r, position))
        if r.random() < 0.5:
            peer.reset()
            return peer.received
        await peer.listen()
    if r.random() < 0.5:
        await resume(server, r, opened, position)
    return peer.received


def _odd_opening(r):
    message = {"type": r.choice(("resume", "open", "close", "reset", "generate"))}
    for name in ("session", "token", "received"):
        if r.random() < 0.8:
            message[name] = r.choice((*THINGS, "a" * 3000))
    return message


def _odd_step(r, position):
    return r.choice(
        (
            lambda: odd_frames(r),
            lambda: steps(r, r.choice((position + 1, 2**63, 2**64 - 1, max(position - 1, 0)))),
            lambda: steps(r, position, r.choice((position + 1, 2**64 - 1))),
            lambda: steps(r, position) * r.randint(2, 40),
            lambda: frame(r.randbytes(r.randint(0, 40))),
            lambda: frame(HEADER.pack(position, 0)),
            lambda: steps(r, position, 0, 700),
            lambda: text_frame({"type": "reset"}) * r.randint(1, 50),
            lambda: text_frame({"type": "close"}) * r.randint(1, 3),
            lambda: text_frame({"type": "open"}),
            lambda: mutated(steps(r, position), r),
        )
    )()


async def resume(server, r, opened, position):
    message = {"type": "resume", "received": position}
    message |= {name: opened[name] for name in ("session", "token")}
    for _ in range(r.randint(0, 2)):
        message[r.choice(list(message))] = r.choice((*THINGS, position + 1))
    async with Peer.to(server) as peer:
        if await peer.upgrade("/v2/models/two/stream") == 101:
            await peer.send(text_frame(message))
            return await peer.listen()


async def deaf_stream(server, r):
    """Send good frames, and read nothing."""
    async with Peer.to(server) as peer:
        if await peer.upgrade("/v2/models/two/stream") == 101:
            await peer.send(text_frame({"type": "open"}))
            for i in range(r.randint(1, 60)):
                await peer.send(steps(r, 100 * i, 0, 100))
            await asyncio.sleep(QUIET)


async def texts(server, r):
    """Ask for text with what no one would ask for."""
    async with Peer.to(server) as peer:
        if await peer.upgrade("/v2/models/text/generate") != 101:
            return peer.received
        for _ in range(r.randint(1, 5)):
            message = {"type": "generate", "prompt": "abc", "max_tokens": r.randint(0, 50)}
            names = (
                "prompt",
                "temperature",
                "top_k",
                "top_p",
                "max_tokens",
                "seed",
                "rate",
                "activations",
            )
            for name in r.sample((*names, "type", "new"), r.randint(0, 3)):
                message[name] = r.choice((*THINGS, "abc" * 3000))
            data = json.dumps(message)
            if r.random() < 0.1:
                data = data.replace("50", r.choice(("NaN", "-Infinity", "1e999", "9" * 5000)))
            await peer.send(odd_frames(r) if r.random() < 0.3 else text_frame(data))
            await peer.send(text_frame({"type": r.choice(("stop", "reset"))}) * r.randint(0, 30))
        if r.random() < 0.3:
            peer.reset()
            return peer.received
        return await peer.listen()


async def deaf_text(server, r):
    async with Peer.to(server) as peer:
        if await peer.upgrade("/v2/models/text/generate") == 101:
            message = {"type": "generate", "max_tokens": 10_000, "activations": True}
            await peer.send(text_frame(message))
            await peer.send(frame(b"x" * 100, 9) * 500 + text_frame(message) * 50)
            await asyncio.sleep(QUIET)


ATTACKS = (
    *(random_bytes, odd_requests, mutated_requests, wrong_lengths, wrong_chunks, wrong_tensors),
    *(packed_bodies, slow_bytes, vanish, never_read, handshakes, streams, streams, streams),
    *(deaf_stream, texts, texts, deaf_text),
)


# --- rounds ---------------------------------------------------------------------------------------


async def attack(server, seed, count, at_once):
    """Run `count` attacks, and return the statuses of all answers of HTTP."""
    turns = asyncio.Semaphore(at_once)
    statuses = []

    async def one(number):
        r = random.Random(f"{seed}/{number}")
        kind = r.choice(ATTACKS)
        async with turns:
            try:
                received = await asyncio.wait_for(kind(server, r), 120)
            except BaseException as error:
                raise AssertionError(f"{kind.__name__}, seed {seed}/{number}") from error
            for status in re.findall(rb"HTTP/1.1 (\d{3}) ", received or b""):
                if status >= b"500" and status != b"503":
                    raise AssertionError(f"{status} for {kind.__name__}, seed {seed}/{number}")
                statuses.append(int(status))

    await asyncio.gather(*map(one, range(count)))
    return statuses


def resident(process):
    """Return MiB of memory of a process."""
    with open(f"/proc/{process.pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024


LIMITS = (
    *("--request-timeout", 1, "--send-timeout", 1, "--idle-timeout", 2, "--drain-timeout", 5),
    *("--max-body", 200_000, "--max-held", 4_000_000, "--max-response", 1_000_000),
    *("--max-frame", 16_384, "--max-steps", 600, "--max-sessions-per-client", 40),
)
TROUBLE = re.compile(r"Traceback|internal_error|_failed|Fatal error|never awaited|never retrieved")


def troubles(server):
    """Return what the log says of things that should not have happened."""
    # uvicorn shows where it found that a client's text is no UTF-8.
    events = [each for each in server.events if "Invalid UTF-8" not in str(each.get("message"))]
    return [str(each) for each in events if TROUBLE.search(str(each))]


def at_rest(server):
    """Tell whether a server holds no session and no step."""
    _, stats = server.get("/v2/fastrnn/stats")
    return stats["sessions"] == stats["pending_steps"] == 0
