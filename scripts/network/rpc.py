"""JSON-RPC over WebSocket, blocking, with subscriptions: what the scripts need of a node."""

import itertools
import json
import time

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect


class RpcError(Exception):
    """The node answered with an error."""


class Node:
    def __init__(self, url, timeout=10):
        self.url, self.ids, self.early = url, itertools.count(1), []
        self.socket = connect(url, open_timeout=timeout, max_size=None)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, method, *params, timeout=30):
        """The result of one call. Notifications that arrive meanwhile are kept for `notifications`."""
        call = next(self.ids)
        self.socket.send(json.dumps({"jsonrpc": "2.0", "id": call, "method": method, "params": params}))
        deadline = time.monotonic() + timeout
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.0, deadline - time.monotonic())))
            if message.get("id") != call:
                self.early.append(message)
            elif "error" in message:
                raise RpcError(f"{method} at {self.url}: {message['error']}")
            else:
                return message["result"]

    def notifications(self, method, deadline):
        """Values of a subscription as they come, until `deadline` (time.monotonic()); then TimeoutError."""
        subscription = self.call(method)
        while True:
            if self.early:
                message = self.early.pop(0)
            else:
                message = json.loads(self.socket.recv(timeout=max(0.0, deadline - time.monotonic())))
            params = message.get("params", {})
            if params.get("subscription") == subscription:
                yield params["result"]


def await_node(url, deadline, alive):
    """Connects as soon as the node listens; `alive` says whether there is still something to wait for."""
    while True:
        try:
            return Node(url)
        except (OSError, WebSocketException) as error:
            if not alive():
                raise ChildProcessError("the node ended before it listened") from error
            if time.monotonic() > deadline:
                raise TimeoutError(f"no node listens at {url}") from error
        # A port that is not open yet announces nothing.
        time.sleep(0.1)


def await_finalized(node, height, deadline):
    """Returns the first finalised height that is at least `height`."""
    for header in node.notifications("chain_subscribeFinalizedHeads", deadline):
        number = int(header["number"], 16)
        if number >= height:
            return number
