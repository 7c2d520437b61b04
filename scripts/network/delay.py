"""A line that is longer than this machine's: what goes through arrives some milliseconds later, in order. Loss is no part of it."""

import asyncio
import contextlib
import threading
import time

CHUNK = 1 << 16


class Line:
    """Listens at a port of its own for each address that is behind the line, on a thread of its own."""

    def __init__(self, one_way_seconds):
        self.delay = one_way_seconds
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def to(self, port):
        """The port through which a port of this machine is reached."""

        async def listen():
            server = await asyncio.start_server(lambda r, w: self._connected(port, r, w), "127.0.0.1", 0)
            return server.sockets[0].getsockname()[1]

        return asyncio.run_coroutine_threadsafe(listen(), self.loop).result()

    async def _connected(self, port, reader, writer):
        # A connection takes a round trip: to there and back.
        await asyncio.sleep(2 * self.delay)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, reader, writer):
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive():
            with contextlib.suppress(OSError):
                while True:
                    due, data = await under_way.get()
                    await asyncio.sleep(max(0, due - time.monotonic()))
                    if not data:
                        break
                    writer.write(data)
                    await writer.drain()
            writer.close()

        arriving = asyncio.create_task(arrive())
        data = b" "
        while data:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = b""
            await under_way.put((time.monotonic() + self.delay, data))
        await arriving
