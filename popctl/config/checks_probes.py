"""What must hold between values of `backends`, `probes`, `profiles` and `timing`. Each check yields problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.config import defaults
from popctl.config.checks_routing import duplicates, problem
from popctl.config.errors import render_path
from popctl.config.probes import METHODS, all_profiles, method_of, of_backend
from popctl.config.shape import suggestion
from popctl.model.probe import HALF_OPEN_S, IkeDeep, IkeLiveness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from popctl.config.errors import KeyPath, Problem
    from popctl.config.probes import Expanded
    from popctl.config.schema_probes import Pace, ProbeEntry
    from popctl.config.shape import Parts

IKE_IN_FLIGHT_MAX = 4
"""charon drops all IKE of an address with 5 exchanges open (`block_threshold`), answered or not."""

DEEP_INTERVAL_MIN_S = 1.0
"""Between two authentications that leave nothing behind."""

_IKEV1 = 1
_NAMED = ("http", "exec")
_ROUNDING_S = 1e-9


def repeated_backends(parts: Parts) -> Iterator[Problem]:
    """Id, name and address each point to one backend."""
    for key in ("id", "name", "address"):
        yield from duplicates(((*part.path, key), getattr(part.value, key)) for part in parts.backends)


def own_profile_names(parts: Parts) -> Iterator[Problem]:
    """The built-in profiles mean the same in every file."""
    for part in parts.profiles.values():
        if part.key in defaults.PROFILES:
            yield problem(part.path, part.key, "is the name of a built-in profile", "choose another name")


def known_references(parts: Parts) -> Iterator[Problem]:
    """A backend names a profile and a probe set that exist."""
    profiles = [*defaults.PROFILES, *(name for name in parts.profiles if name not in defaults.PROFILES)]
    for part in parts.backends:
        profile, probes = part.value.profile, part.value.probes
        if profile not in profiles and "profiles" not in parts.broken:
            remedy = suggestion(profile, profiles, "profile")
            yield problem((*part.path, "profile"), profile, "no profile has this name", remedy)
        if isinstance(probes, str) and probes not in parts.probes and "probes" not in parts.broken:
            remedy = suggestion(probes, parts.probes, "probe set")
            yield problem((*part.path, "probes"), probes, "no probe set has this name", remedy)


def one_method_each(parts: Parts) -> Iterator[Problem]:
    """Every entry of a list of probes is exactly one probe method."""
    for path, entries in _lists(parts):
        for index, entry in enumerate(entries):
            if method_of(entry) is None:
                named = [method for method in METHODS if getattr(entry, method) is not None]
                remedy = "write one of " + ", ".join(METHODS) + ", like `icmp: {}`"
                found = " and ".join(named) or "no method"
                yield problem((*path, index), found, "an entry is exactly one probe", remedy)


def absolute_programs(parts: Parts) -> Iterator[Problem]:
    """A program is named from the root, so that the search path of the agent does not matter."""
    for path, entries in _lists(parts):
        for index, entry in enumerate(entries):
            if entry.exec and not entry.exec.argv[0].startswith("/"):
                what = "the program is not an absolute path"
                yield problem((*path, index, "exec", "argv", 0), entry.exec.argv[0], what, "write it from the root")


def repeated_probes(parts: Parts) -> Iterator[Problem]:
    """A probe is known by backend and name."""
    for part in parts.backends:
        seen: dict[str, KeyPath] = {}
        for probe in of_backend(parts, part, {}):
            name = probe.spec.name
            if name in seen:
                what = f"the backend has a probe of this name from {render_path(seen[name])}"
                remedy = (
                    "give one of them another `name`, or remove it"
                    if probe.path[-1] in _NAMED
                    else "remove it from one"
                )
                yield problem(probe.path, name, what, remedy)
            seen.setdefault(name, probe.path)


def ike_in_flight(parts: Parts) -> Iterator[Problem]:
    """A probe is in flight at most once, so the number of IKE probes is the most there can be at one gateway."""
    for part in parts.backends:
        probes = of_backend(parts, part, {})
        count = sum(isinstance(probe.spec.method, IkeLiveness | IkeDeep) for probe in probes)
        if count > IKE_IN_FLIGHT_MAX:
            what = (
                f"at most {IKE_IN_FLIGHT_MAX} may be in flight from one address, because charon ignores an address "
                "with 5 open exchanges (charon.block_threshold) and a healthy gateway then looks dead"
            )
            remedy = "remove ports, versions or the deep probe"
            yield problem((*part.path, "probes"), f"{count} IKE probes", what, remedy)


def deep_waits(parts: Parts) -> Iterator[Problem]:
    """Whole authentications leave the gateway time for others, wherever their pace was written."""
    for backend in parts.backends:
        for probe in of_backend(parts, backend, {}):
            if isinstance(probe.spec.method, IkeDeep):
                yield from _ikev1_waits(probe) if probe.spec.method.version == _IKEV1 else _ikev2_waits(probe)


def _ikev2_waits(probe: Expanded) -> Iterator[Problem]:
    interval_s = probe.spec.cadence.interval_s
    if interval_s < DEEP_INTERVAL_MIN_S:
        what = "each authentication costs the gateway two Diffie-Hellman operations"
        yield _deep_problem(probe, "interval", f"{interval_s:g} s", what, f"use at least {DEEP_INTERVAL_MIN_S:g} s")


def _ikev1_waits(probe: Expanded) -> Iterator[Problem]:
    cadence = probe.spec.cadence
    what = (
        f"an IKEv1 authentication that fails stays half open at the gateway for {HALF_OPEN_S:g} s, and charon ignores "
        "an address that has 5 of them (charon.block_threshold)"
    )
    waits = {"interval": cadence.interval_s, "retry": cadence.retry_s}
    for key, wait_s in waits.items():
        if wait_s < HALF_OPEN_S:
            yield _deep_problem(probe, key, f"{wait_s:g} s", what, f"use at least {HALF_OPEN_S:g} s")
    most = defaults.PROFILES[defaults.PROFILE].deep_v1.cadence.jitter
    if cadence.jitter > most:
        yield _deep_problem(probe, "jitter", f"{cadence.jitter:g}", what, f"use at most {most:g}: waits vary by it")


def _deep_problem(probe: Expanded, key: str, found: str, what: str, remedy: str) -> Problem:
    origin = " from the profile" if getattr(probe.written, key) is None else ""
    return problem((*probe.path, key), f"{found}{origin}", what, remedy)


def paces(parts: Parts) -> Iterator[Problem]:
    """The values of one pace fit each other, in own profiles and wherever an entry changes them."""
    profiles = all_profiles(parts.profiles)
    for name, part in parts.profiles.items():
        if name not in defaults.PROFILES:
            yield from _pace(part.path, part.value, profiles[name].liveness)
            yield from _pace((*part.path, "deep"), part.value.deep, profiles[name].deep)
    for backend in parts.backends:
        for probe in of_backend(parts, backend, {}):
            yield from _pace(probe.path, probe.written, defaults.Pace(probe.spec.cadence, probe.spec.thresholds))


def _pace(path: KeyPath, written: Pace, pace: defaults.Pace) -> Iterator[Problem]:
    """Yield what does not fit, at the first key written here that has a part in it."""
    cadence, thresholds = pace
    longest_s = cadence.interval_s * (1 + cadence.jitter)
    stale_s = longest_s + cadence.timeout_s
    slow = f"a timeout of {cadence.timeout_s:g} s is longer than the longest wait between two runs, {longest_s:g} s"
    stale = f"a result is stale after {thresholds.stale_after_s:g} s, before the next one, due within {stale_s:g} s"
    late = f"a retry after {cadence.retry_s:g} s comes later than the next run would, after {cadence.interval_s:g} s"
    rules = (
        (
            cadence.timeout_s > longest_s + _ROUNDING_S,
            ("timeout", "interval", "jitter"),
            f"{slow}, so silence and not the interval would set the pace",
            "use a timeout of at most the interval",
        ),
        (
            thresholds.stale_after_s < stale_s - _ROUNDING_S,
            ("stale_after", "interval", "jitter", "timeout"),
            stale,
            "use a stale_after of several intervals",
        ),
        (
            cadence.retry_s > cadence.interval_s,
            ("retry", "interval"),
            late,
            "use a retry shorter than the interval, or 0",
        ),
    )
    for broken, keys, what, remedy in rules:
        key = next((key for key in keys if getattr(written, key) is not None), None)
        if broken and key:
            unit = "" if key == "jitter" else " s"
            yield problem((*path, key), f"{getattr(written, key):g}{unit}", what, remedy)


def hold_down_order(parts: Parts) -> Iterator[Problem]:
    """The first hold-down is not longer than the longest."""
    timing = parts.timing
    if timing and timing.hold_down > timing.hold_down_max:
        what = f"is longer than timing.hold_down_max, {timing.hold_down_max:g} s"
        yield problem(("timing", "hold_down"), f"{timing.hold_down:g} s", what, "shorten it or raise the maximum")


def _lists(parts: Parts) -> Iterator[tuple[KeyPath, list[ProbeEntry]]]:
    for named in parts.probes.values():
        yield named.path, named.value.root
    for part in parts.backends:
        if isinstance(part.value.probes, list):
            yield (*part.path, "probes"), part.value.probes


CHECKS = (
    repeated_backends,
    own_profile_names,
    known_references,
    one_method_each,
    absolute_programs,
    repeated_probes,
    ike_in_flight,
    deep_waits,
    paces,
    hold_down_order,
)
