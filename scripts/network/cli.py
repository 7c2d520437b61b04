"""The node's own command line, called by scripts: every subcommand with --json."""

import json
import os
import subprocess
import sys


class CliError(Exception):
    """A subcommand failed; its own message went to standard error."""


class Cli:
    def __init__(self, binary):
        self.binary = binary

    def run(self, *arguments, show=None):
        """The last JSON object that the subcommand printed. A request's states, and what happens in a chat, go
        to `show` as they come.

        What the subcommand says to people goes to standard error.
        """
        command = [self.binary, *arguments, "--json"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None  # a pipe
        last = None
        for line in process.stdout:
            if not line.strip():
                continue
            try:
                last = json.loads(line)
            except json.JSONDecodeError:
                sys.stderr.write(line)
                continue
            if show is not None and ("state" in last or "event" in last):
                show(last)
        if process.wait() != 0:
            raise CliError(f"{os.path.basename(self.binary)} {' '.join(arguments[:2])} ended with {process.returncode}")
        return last

    def import_model(self, folder, validator):
        """The model's id. The class of what scripts/setup makes is known: every byte is as it was when that was measured."""
        return self.run(
            "model", "import", folder, "--no-measure", "--base-path", validator.folder, "--chain", "local"
        )["model"]  # fmt: skip

    def register(self, model, validator, account):
        return self.run(
            "model", "register", model, "--base-path", validator.folder, "--chain", "local",
            "--suri", account, "--url", validator.url,
        )  # fmt: skip

    def serve(self, model, validator):
        return self.run("model", "serve", model, "--url", validator.url)

    def chat(self, model, validator, account, wallet, question, show):
        """Asks in the session lane, through a channel that is opened for it; what came of it."""
        return self.run(
            "chat", "--model", model, "--suri", account, "--url", validator.url, "--wallet", wallet, "--max-tokens", "32",
            question, show=show,
        )  # fmt: skip

    def infer(self, model, validator, account, question, show):
        """Asks and waits; the request as it stands at its end."""
        return self.run(
            "infer", "--model", model, "--suri", account, "--url", validator.url, *question, show=show
        )  # fmt: skip
