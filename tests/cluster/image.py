#!/usr/bin/env python3
"""Writes an image of one layer as the archive that `ctr images import` and `docker load` read; no engine is needed.

usage: image.py OUT.tar --file FROM=TO... --name REFERENCE... [--user USER] [--env NAME=VALUE]...

The first file is the entry point. The same input gives the same bytes.
"""

import argparse
import hashlib
import io
import json
import tarfile


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--file", action="append", required=True, metavar="FROM=TO")
    parser.add_argument("--name", action="append", required=True, metavar="REFERENCE")
    parser.add_argument("--user", default="", help="as whom it runs; root when absent")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def add(archive, name, content=b"", mode=0o644, kind=tarfile.REGTYPE):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.type = len(content), mode, kind
    archive.addfile(entry, io.BytesIO(content))


def layer(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        add(archive, "tmp", mode=0o1777, kind=tarfile.DIRTYPE)
        # For programs that look up who they are.
        add(archive, "etc", mode=0o755, kind=tarfile.DIRTYPE)
        add(archive, "etc/passwd", b"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")
        add(archive, "etc/group", b"root:x:0:\nnonroot:x:65532:\n")
        for source, target in files:
            with open(source, "rb") as content:
                add(archive, target.lstrip("/"), content.read(), mode=0o755)
    return out.getvalue()


def main():
    given = arguments()
    files = [tuple(pair.split("=", 1)) for pair in given.file]
    content = layer(files)
    digest = hashlib.sha256(content).hexdigest()
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [files[0][1]], "User": given.user, "Env": ["PATH=/", *given.env], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": given.name, "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(given.out, "w") as archive:
        add(archive, config_name, config)
        add(archive, f"{digest}/layer.tar", content)
        add(archive, "manifest.json", json.dumps(manifest).encode())


if __name__ == "__main__":
    main()
