"""From model folders to active models on a running network."""

import os
import time

from rpc import Node
from validators import NetworkError

# From the announcement to the last validator's attestation: each loads the model and reproduces its reference on shared cores.
ACTIVE_SECONDS = 600


def bring_up(cli, network, folders, owner, say):
    """Imports the folders at the first validator, registers them, lets all serve them, waits until all do. The others fetch them over
    the network. Returns {folder: model id}."""
    first, *others = network.validators
    models = {}
    for folder in folders:
        say(f"importing {os.path.basename(folder)} at {first.name}")
        models[folder] = cli.import_model(folder, first)
    for folder, model in models.items():
        say(f"registering {os.path.basename(folder)}")
        cli.register(model, first, owner)
        cli.serve(model, first)
    for folder, model in models.items():
        for validator in others:
            began = time.monotonic()
            cli.serve(model, validator)
            say(f"{validator.name} has fetched {os.path.basename(folder)} ({time.monotonic() - began:.1f} s), and serves it")
    await_active(network, set(models.values()), say)
    return models


def await_active(network, models, say):
    """Looks at every new block until all validators serve all models."""
    deadline = time.monotonic() + ACTIVE_SECONDS
    wanted = len(network.validators)
    seen: dict[str, tuple[str, int]] = {}
    with Node(network.validators[0].url) as heads, Node(network.validators[0].url) as calls:
        try:
            for header in heads.notifications("chain_subscribeNewHeads", deadline):
                for entry in calls.call("models_list"):
                    state = (entry["status"], len(entry["serving"]))
                    if entry["id"] in models and seen.get(entry["id"]) != state:
                        seen[entry["id"]] = state
                        say(f"block {int(header['number'], 16)}: {entry['name']} is {state[0]}, served by {state[1]}")
                if models == {m for m, state in seen.items() if state == ("active", wanted)}:
                    return
        except TimeoutError as error:
            logs = "\n".join(f"{v.name}: {v.log}" for v in network.validators)
            raise NetworkError(f"not all models are served by all within {ACTIVE_SECONDS} s: {seen}\n{logs}") from error
