"""Writes the names of a module's functions as a backtrace is read: `a::b<C>::d` instead of `_ZN1a1b...`, which takes a third more.

usage: shorten-names.py FILE
"""

import re
import sys

ESCAPES = {
    "$SP$": "@", "$BP$": "*", "$RF$": "&", "$LT$": "<", "$GT$": ">", "$LP$": "(", "$RP$": ")", "$C$": ",",
    "$u20$": " ", "$u27$": "'", "$u5b$": "[", "$u5d$": "]", "$u7b$": "{", "$u7d$": "}", "$u7e$": "~", "..": "::",
}  # fmt: skip


def leb(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def to_leb(value):
    written = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        written.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(written)


def prefixed(data):
    return to_leb(len(data)) + data


def short(name):
    if not name.startswith("_ZN"):
        return name
    rest, pieces = name.removeprefix("_ZN"), []
    while length := re.match(r"\d+", rest):
        end = length.end() + int(length.group())
        pieces.append(rest[length.end() : end])
        rest = rest[end:]
    if re.fullmatch(r"h[0-9a-f]{16}", pieces[-1]):
        pieces.pop()
    text = "::".join(pieces)
    for escape, character in ESCAPES.items():
        text = text.replace(escape, character)
    return re.sub(r"(^|::)_<", r"\1<", text)


def shortened(names):
    """Rewrites the contents of the section `name`."""
    at, written = 0, bytearray()
    while at < len(names):
        kind = names[at]
        size, start = leb(names, at + 1)
        part = names[start : start + size]
        at = start + size
        if kind == 1:
            count, here = leb(part, 0)
            rewritten = bytearray(to_leb(count))
            for _ in range(count):
                function, here = leb(part, here)
                length, here = leb(part, here)
                name = part[here : here + length].decode()
                here += length
                rewritten += to_leb(function) + prefixed(short(name).encode())
            part = bytes(rewritten)
        written.append(kind)
        written += prefixed(part)
    return bytes(written)


def main(path):
    data = open(path, "rb").read()
    at, written = 8, bytearray(data[:8])
    while at < len(data):
        kind = data[at]
        size, start = leb(data, at + 1)
        section = data[start : start + size]
        at = start + size
        if kind == 0:
            length, here = leb(section, 0)
            if section[here : here + length] == b"name":
                section = section[: here + length] + shortened(section[here + length :])
        written.append(kind)
        written += prefixed(section)
    with open(path, "wb") as file:
        file.write(written)


main(sys.argv[1])
