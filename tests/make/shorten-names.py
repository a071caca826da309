"""Writes the names of a module's functions as a backtrace is read: `a::b<C>::d` instead of `_ZN1a1b...`, which takes a third more.

usage: shorten-names.py FILE
"""

import re
import sys

from wasm_module import leb, sections, text

ESCAPES = {
    "$SP$": "@", "$BP$": "*", "$RF$": "&", "$LT$": "<", "$GT$": ">", "$LP$": "(", "$RP$": ")", "$C$": ",",
    "$u20$": " ", "$u27$": "'", "$u5b$": "[", "$u5d$": "]", "$u7b$": "{", "$u7d$": "}", "$u7e$": "~", "..": "::",
}  # fmt: skip


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
    joined = "::".join(pieces)
    for escape, character in ESCAPES.items():
        joined = joined.replace(escape, character)
    return re.sub(r"(^|::)_<", r"\1<", joined)


def function_names(part):
    """Rewrites the names of functions."""
    count, here = leb(part, 0)
    rewritten = bytearray(to_leb(count))
    for _ in range(count):
        function, here = leb(part, here)
        name, here = text(part, here)
        rewritten += to_leb(function) + prefixed(short(name).encode())
    return bytes(rewritten)


def custom(section):
    """Rewrites a custom section, if it is the one of names."""
    name, start = text(section, 0)
    if name != "name":
        return section
    return section[:start] + rewritten(section[start:], 1, function_names)


def rewritten(data, wanted, rewrite):
    """Sections with those of one kind rewritten."""
    written = bytearray()
    for kind, content in sections(data):
        written.append(kind)
        written += prefixed(rewrite(content) if kind == wanted else content)
    return bytes(written)


def main(path):
    data = open(path, "rb").read()
    with open(path, "wb") as file:
        file.write(data[:8] + rewritten(data[8:], 0, custom))


main(sys.argv[1])
