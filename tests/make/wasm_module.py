"""Reads WebAssembly modules, as far as checking and shortening them needs."""

MAGIC = b"\0asm"


def leb(data, at):
    """An unsigned LEB128 number, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def text(data, at):
    """A name with its length before it, and where it ends."""
    length, at = leb(data, at)
    return data[at : at + length].decode(), at + length


def sections(data, at=0):
    """Kind and content of each section, or of each part of a section that is made of such."""
    while at < len(data):
        kind = data[at]
        size, start = leb(data, at + 1)
        at = start + size
        yield kind, data[start:at]
