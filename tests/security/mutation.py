"""Inputs that nobody meant: seeded, so that a failing one comes again."""

import json
import random
from collections.abc import Sequence
from typing import Any

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, float("inf"), float("nan"),
    "", " ", "0", "-1", "nan", "\x00", "\ud800", "é", "́", "\u202e", "'", '"', "<", "&", "%s", "{}", "${x}",
    "../../etc/passwd", "<script>alert(1)</script>", "' OR 1=1 --", "{{7*7}}", "A" * 2_000, "9" * 5_000, "1e999",
    [], {}, [[]], [None], {"": None}, {"id": None}, {"__proto__": 1}, [0] * 100,
)  # fmt: skip


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def strange(chance: random.Random) -> Any:
    """A value that is seldom what was asked for."""
    return deep(chance.choice((5, 50, 200))) if chance.random() < 0.02 else chance.choice(STRANGE)


def changed(value: Any, chance: random.Random) -> Any:
    """The same with one thing in it replaced, left out, doubled, or damaged."""
    if chance.random() < 0.15:
        return strange(chance)
    if isinstance(value, dict) and value:
        key = chance.choice(list(value))
        copy = dict(value)
        match chance.randrange(8):
            case 0:
                del copy[key]
            case 1:
                copy[str(strange(chance))] = copy.pop(key)
            case _:
                copy[key] = changed(value[key], chance)
        return copy
    if isinstance(value, list) and value:
        place = chance.randrange(len(value))
        match chance.randrange(8):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value + value
            case _:
                return [*value[:place], changed(value[place], chance), *value[place + 1 :]]
    if isinstance(value, str) and value:
        return damaged_text(value, chance)
    return strange(chance)


def damaged_text(text: str, chance: random.Random) -> str:
    """A text with some characters left out, doubled or put in."""
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text) + 1)
        end = min(len(text), place + chance.randint(0, 8))
        piece = chance.choice(("", text[place:end] * 2, chr(chance.randrange(0xD800)), *'<>"&=/$;{}[]:-_0'))
        text = text[:place] + piece + text[end:]
    return text


def damaged_bytes(data: bytes, chance: random.Random) -> bytes:
    """Bytes with some of them changed, cut off, put in or moved."""
    given = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(given) + 1)
        match chance.randrange(5):
            case 0:
                given[place : place + chance.randint(1, 16)] = b""
            case 1:
                given[place:place] = chance.randbytes(chance.randint(1, 16))
            case 2:
                given[place : place + 4] = chance.choice(
                    (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")
                )
            case 3:
                del given[max(1, place) :]
            case _:
                if place < len(given):
                    given[place] ^= 1 << chance.randrange(8)
    return bytes(given)


def as_body(value: Any) -> bytes:
    """JSON, as a client would send it that knows no better."""
    return json.dumps(value).encode()


def pick(values: Sequence[Any], chance: random.Random) -> Any:
    """One of them."""
    return values[chance.randrange(len(values))]
