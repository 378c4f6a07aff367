"""Keys and certificates of one cluster, by openssl, and the kubeconfig files made of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Nothing from the machine's own openssl.cnf.
_CONFIG = "[req]\ndistinguished_name = names\n[names]\n"
_DAYS = "3"


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """The one authority of a cluster: servers and clients trust whom it signed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._config = folder / "openssl.cnf"
        self._config.write_text(_CONFIG)
        own = self._request("ca", "/CN=storage-tests", ["basicConstraints=critical,CA:TRUE"])
        self.certificate = own.certificate
        self._signed_by = ("-CA", str(own.certificate), "-CAkey", str(own.key))
        self.account_key = folder / "accounts.key"
        _openssl("genrsa", "-out", str(self.account_key), "2048")

    def issue(self, name: str, subject: str, addresses: Sequence[str] = ()) -> Identity:
        """For a client, and for a server at these addresses. ``subject``: group as O, user as CN."""
        extensions = ["basicConstraints=CA:FALSE", "extendedKeyUsage=serverAuth,clientAuth"]
        if addresses:
            extensions.append("subjectAltName=" + ",".join(f"IP:{each}" for each in addresses))
        return self._request(name, subject, extensions, *self._signed_by)

    def kubeconfig(self, name: str, subject: str, server: str) -> Path:
        """A file with which its holder is ``subject`` at the API server; JSON is YAML."""
        who = self.issue(name, subject)
        path = self._folder / f"{name}.kubeconfig"
        context = {"cluster": "tests", "user": name}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {"name": "tests", "cluster": {"server": server, "certificate-authority": str(self.certificate)}}
                    ],
                    "users": [
                        {
                            "name": name,
                            "user": {"client-certificate": str(who.certificate), "client-key": str(who.key)},
                        }
                    ],
                    "contexts": [{"name": "tests", "context": context}],
                    "current-context": "tests",
                }
            )
        )
        return path

    def _request(self, name: str, subject: str, extensions: Sequence[str], *signed_by: str) -> Identity:
        identity = Identity(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        _openssl(
            *("req", "-x509", "-config", str(self._config), "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", _DAYS, "-subj", subject, *signed_by),
            *("-keyout", str(identity.key), "-out", str(identity.certificate)),
            *(word for each in extensions for word in ("-addext", each)),
        )
        return identity


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.strip()}")
