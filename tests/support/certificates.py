"""Certificates for loopback, made by openssl, as an operator makes one of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.programs import program


def certificate(folder: Path, name: str = "hub") -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 and localhost; return it and its key."""
    openssl = program("openssl", "openssl")
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", key, "-out", cert),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key
