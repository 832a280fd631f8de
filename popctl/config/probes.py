"""Probe entries and profiles -> `ProbeSpec`s with stable names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from popctl.config import defaults
from popctl.config.locators import ADDRESS_PLACEHOLDER, split_url
from popctl.model import probe as model
from popctl.model.pop import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from popctl.config import schema_probes as schema
    from popctl.config.errors import KeyPath
    from popctl.config.schema import Backend
    from popctl.config.secret_files import Secrets
    from popctl.config.shape import Parts, Placed
    from popctl.model.route import Address

T = TypeVar("T")

METHODS = ("ike", "ike_deep", "l2tp", "icmp", "tcp", "http", "exec")
"""The keys of a probe entry."""

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")

_UNREAD = Secret("")
"""Stands for a secret that could not be read, while the other checks go on. It never reaches a `Pop`."""


def overlay(base: defaults.Pace, over: schema.Pace) -> defaults.Pace:
    """Return `base` with the keys that `over` sets."""
    cadence, thresholds = base
    return defaults.Pace(
        model.Cadence(
            interval_s=_or(over.interval, cadence.interval_s),
            jitter=_or(over.jitter, cadence.jitter),
            timeout_s=_or(over.timeout, cadence.timeout_s),
            retry_s=_or(over.retry, cadence.retry_s),
        ),
        model.Thresholds(
            rise=_or(over.rise, thresholds.rise),
            fall=_or(over.fall, thresholds.fall),
            fall_refused=_or(over.fall_refused, thresholds.fall_refused),
            stale_after_s=_or(over.stale_after, thresholds.stale_after_s),
        ),
    )


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def all_profiles(own: Mapping[str, Placed[schema.Profile]]) -> dict[str, defaults.Profile]:
    """Return the built-in profiles and the own ones; an own one starts from `default`."""
    base = defaults.PROFILES[defaults.PROFILE]
    profiles = {
        name: defaults.Profile(
            liveness=overlay(base.liveness, part.value),
            deep=overlay(base.deep, part.value.deep),
            deep_v1=overlay(base.deep_v1, part.value.deep),
        )
        for name, part in own.items()
    }
    return profiles | defaults.PROFILES


def method_of(entry: schema.ProbeEntry) -> str | None:
    """Return the one method of an entry, or None when there is none or more than one."""
    named = [method for method in METHODS if getattr(entry, method) is not None]
    return named[0] if len(named) == 1 else None


class Expanded(NamedTuple):
    """One probe of one backend and the entry it comes from."""

    path: KeyPath
    written: schema.Pace
    spec: model.ProbeSpec


def expand(
    path: KeyPath,
    entries: Sequence[schema.ProbeEntry],
    profile: defaults.Profile,
    address: Address,
    secrets: Secrets,
) -> Iterator[Expanded]:
    """Yield the probes of one backend.

    Entries without exactly one method are left out; `checks_probes` reports them.
    """
    for index, entry in enumerate(entries):
        method = method_of(entry)
        options: schema.Pace | None = getattr(entry, method) if method else None
        if method is None or options is None:
            continue
        cadence, thresholds = overlay(_pace(profile, entry), options)
        for name, ask in _methods(entry, address, secrets):
            spec = model.ProbeSpec(name=name, method=ask, cadence=cadence, thresholds=thresholds)
            yield Expanded((*path, index, method), options, spec)


def _pace(profile: defaults.Profile, entry: schema.ProbeEntry) -> defaults.Pace:
    if entry.ike_deep is None:
        return profile.liveness
    return profile.deep_v1 if entry.ike_deep.version == 1 else profile.deep


def of_backend(parts: Parts, backend: Placed[Backend], secrets: Secrets) -> tuple[Expanded, ...]:
    """Return the probes of a backend; none when its profile or probe set is not there."""
    profile = all_profiles(parts.profiles).get(backend.value.profile)
    probes = backend.value.probes
    path: KeyPath = (*backend.path, "probes")
    if isinstance(probes, str):
        named = parts.probes.get(probes)
        path, entries = ("probes", probes), named.value.root if named else []
    else:
        entries = probes
    return tuple(expand(path, entries, profile, backend.value.address, secrets)) if profile else ()


def _methods(entry: schema.ProbeEntry, address: Address, secrets: Secrets) -> Iterator[tuple[str, model.Method]]:
    """Yield name and method of every probe that one entry stands for."""
    if ike := entry.ike:
        for port in ike.ports:
            yield f"ike{ike.version}-{port}", model.IkeLiveness(version=ike.version, port=port)
    if deep := entry.ike_deep:
        psk = secrets.get(deep.psk_file, _UNREAD)
        yield (
            f"ike{deep.version}-auth-{deep.port}",
            model.IkeDeep(
                version=deep.version,
                port=deep.port,
                identity=deep.identity,
                remote_identity=deep.remote_identity,
                psk=psk,
            ),
        )
    if l2tp := entry.l2tp:
        secret = secrets.get(l2tp.secret_file, _UNREAD) if l2tp.secret_file else None
        yield f"l2tp-{l2tp.port}", model.L2tp(port=l2tp.port, secret=secret)
    if entry.icmp:
        yield "icmp", model.Icmp()
    if tcp := entry.tcp:
        yield f"tcp-{tcp.port}", model.Tcp(port=tcp.port)
    if entry.http:
        yield _http(entry.http, address)
    if program := entry.exec:
        argv = tuple(argument.replace(ADDRESS_PLACEHOLDER, str(address)) for argument in program.argv)
        yield program.name or "exec-" + _NOT_IN_NAME.sub("-", PurePath(argv[0]).name)[:50], model.Exec(argv=argv)


def _http(http: schema.Http, address: Address) -> tuple[str, model.Http]:
    host = str(address) if address.version == 4 else f"[{address}]"  # noqa: PLR2004 - IP version
    url = http.url.replace(ADDRESS_PLACEHOLDER, host)
    parts = split_url(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return http.name or f"http-{port}", model.Http(url=url, statuses=frozenset(http.statuses))
