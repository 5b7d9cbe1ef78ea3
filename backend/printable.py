"""Text of others, safe to show on a terminal and in a log: nothing in it colours, moves the cursor or begins a line."""

import json


def printable(text: str) -> str:
    """The text in one line; each character that shows nothing by itself becomes its escape in JSON, as `\\u001b`."""
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)


def printable_lines(text: str) -> str:
    """The same, but lines stay lines."""
    return "\n".join(map(printable, text.split("\n")))
