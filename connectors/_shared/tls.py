"""The `tls` options of every kind that connects to a server, and their `ssl` context."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from engine.config.model import Model
from engine.errors import HoldError

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class TlsConfig(Model):
    """TLS of a connection. Files are read at every connect, so a renewed certificate needs no restart."""

    ca: str | None = None
    """File of trusted CA certificates (PEM). Default: those of the system."""
    cert: str | None = None
    """File of the client certificate and its chain (PEM)."""
    key: str | None = None
    """File of the client's private key (PEM). Default: `cert` holds the key too."""
    key_password: SecretStr | None = None
    """Password of the private key."""
    verify: Literal["full", "ca", "none"] = "full"
    """`full` verifies the server's certificate and its name, `ca` only the certificate, `none` neither."""
    server_name: str | None = None
    """Name that the server's certificate must have, also sent as SNI. Default: the host of the address."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Lowest TLS version that is accepted."""

    def context(self, base_dir: Path) -> ssl.SSLContext:
        """Return the client context. Relative paths start at `base_dir`. Reads files. Raise `HoldError` if it fails."""
        try:
            return self._context(base_dir)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = ", ".join(name for name in (self.ca, self.cert, self.key) if name)
            raise HoldError(f"TLS can't be set up with {files}: {error}", code="tls_files") from error

    def _context(self, base_dir: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(base_dir / self.ca) if self.ca else None)
        context.minimum_version = _VERSIONS[self.min_version]
        context.check_hostname = self.verify == "full"
        context.verify_mode = ssl.CERT_NONE if self.verify == "none" else ssl.CERT_REQUIRED
        if self.cert is not None:
            password = self.key_password.get_secret_value() if self.key_password else ""
            key = str(base_dir / self.key) if self.key else None
            context.load_cert_chain(
                str(base_dir / self.cert), key, password
            )  # an empty password, or OpenSSL asks on the terminal
        return context
