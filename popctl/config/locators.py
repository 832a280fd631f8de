"""Text -> where something is: file paths, sockets, URLs. One value at a time."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import PlainValidator

from popctl.config.errors import HIDDEN
from popctl.config.fields import Kind, read_text, refuse
from popctl.model.pop import ViciEndpoint

_UNIX_PATH_MAX = 107
_MAX_PORT = 0xFFFF

ADDRESS_PLACEHOLDER = "{address}"
"""Stands in a URL or an argument for the address of the backend that is probed."""


def _absolute(value: object) -> Path:
    text = read_text(value, "/run/popctl/api.sock")
    if not text.startswith("/") or not text.isprintable():
        raise refuse("is not an absolute path", "write it from the root, like /run/popctl/api.sock")
    if not _names_a_file(text):
        raise refuse("is not the path of a file", "end it with a name, and leave `..` out")
    return _one_way(text)


def _names_a_file(text: str) -> bool:
    """Whether it ends with a name and does not go back: else it names a folder, or one file in many ways."""
    names = text.split("/")
    return names[-1] not in {"", "."} and ".." not in names


def _one_way(text: str) -> Path:
    """Return the path so that two are equal if they are. Two slashes at the start would be kept as they are."""
    return Path("/" + text.lstrip("/"))


def _socket(value: object) -> Path:
    path = _absolute(value)
    if len(str(path).encode()) > _UNIX_PATH_MAX:
        raise refuse(f"is longer than {_UNIX_PATH_MAX} bytes, the limit of a unix socket", "choose a shorter path")
    return path


def _secret_file(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable() or not _names_a_file(value):
        # It may be the secret itself, put here by mistake.
        remedy = "put the secret into a file of its own and name that file, like /etc/popctl/secrets/upstream-a"
        raise refuse("is not an absolute path of a file", remedy, found=HIDDEN)
    return _one_way(value)


def _url(value: object) -> str:
    text = read_text(value, "http://{address}:8080/health")
    if not text.isprintable() or " " in text:
        raise refuse("is not a URL", "write it like http://{address}:8080/health")
    try:
        split_url(text.replace(ADDRESS_PLACEHOLDER, "[2001:db8::1]"))
        parts = split_url(text.replace(ADDRESS_PLACEHOLDER, "192.0.2.1"))
    except ValueError:
        raise refuse("is not a URL", "write it like http://{address}:8080/health") from None
    if parts.username is not None or parts.password is not None:
        raise refuse("has credentials in it", "leave them out", found=HIDDEN)
    return text


def _vici(value: object) -> ViciEndpoint:
    example = "unix:///run/charon.vici or tcp://10.0.0.1:4502"
    scheme, _, rest = read_text(value, example).partition("://")
    if scheme == "unix" and rest.startswith("/") and rest.isprintable() and len(rest.encode()) <= _UNIX_PATH_MAX:
        if _names_a_file(rest):
            return ViciEndpoint(path=_one_way(rest))
        raise refuse("is not the path of a socket", f"write it like {example}")
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT:
        try:
            return ViciEndpoint(host=str(ip_address(host.removeprefix("[").removesuffix("]"))), port=int(port))
        except ValueError:
            pass
    raise refuse("is not an address of charon's control socket", f"write it like {example}")


def _store_url(value: object) -> str:
    example = "https://192.0.2.5:2379"
    text = read_text(value, example)
    try:
        parts = split_url(text)
        plain = parts.port is not None and not (parts.path or parts.query or parts.fragment)
    except ValueError:
        plain = False
    if not plain or not text.isprintable() or " " in text:
        raise refuse("is not the client URL of a member of etcd", f"write it like {example}")
    if parts.username is not None or parts.password is not None:
        raise refuse("has credentials in it", "use certificates instead", found=HIDDEN)
    return text


def split_url(text: str) -> SplitResult:
    """Split an HTTP URL. Raises `ValueError` when it is not one or its port is none."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("not an HTTP URL")
    return parts


AbsolutePath: TypeAlias = Annotated[Path, PlainValidator(_absolute), Kind("absolute path")]
SocketPath: TypeAlias = Annotated[Path, PlainValidator(_socket), Kind("absolute path, at most 107 bytes")]
SecretFile: TypeAlias = Annotated[Path, PlainValidator(_secret_file), Kind("absolute path of a secret file")]
Vici: TypeAlias = Annotated[ViciEndpoint, PlainValidator(_vici), Kind("unix:///PATH or tcp://ADDRESS:PORT")]
Url: TypeAlias = Annotated[str, PlainValidator(_url), Kind("URL")]
StoreUrl: TypeAlias = Annotated[str, PlainValidator(_store_url), Kind("URL")]
