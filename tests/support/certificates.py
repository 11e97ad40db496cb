"""Certificates for tests of TLS (authority, server, client), made by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def make_certificates(folder: Path, server_name: str) -> Path:
    """``ca.pem``, and ``.pem`` and ``.key`` of ``server`` and ``client``; `server_name` is written ``DNS:a.b``."""
    _openssl(
        folder, "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Plant CA",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    (folder / "names").write_text(f"subjectAltName={server_name}")
    for name in ("server", "client"):
        _openssl(folder, "req", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        _openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", f"{name}.pem",
            "-days", "2", "-extfile", "names",
        )  # fmt: skip
    return folder


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
