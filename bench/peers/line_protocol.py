"""How a peer takes turns with Weir under bench/run: it says {"ready": true} once it is warm, and for every
line of stdin it does what the line asks and answers with one line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable


def say(answer: dict) -> None:
    # What libraries print to stdout must not be taken for an answer: each is a line of its own.
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.stdout.flush()


def serve(answer: Callable[[list[str]], dict], **facts) -> None:
    say({"ready": True, **facts})
    for line in sys.stdin:
        say(answer(line.split()))
