"""JSON as its standard has it: no NaN, no key twice, and whatever is wrong is one kind of error."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from popctl.wire.errors import WireError


def read(data: bytes | str) -> object:
    """Return the value of a document.

    Raises:
        WireError: it is no JSON, has a key twice in one object, or is nested or written out beyond all measure; the
            offset says where, where that is known.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        # NaN and Infinity are no JSON, although Python reads them.
        value: object = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise WireError("not UTF-8", offset=error.start) from error
    except json.JSONDecodeError as error:
        raise WireError(f"not JSON: {error.msg}", offset=error.pos) from error
    except RecursionError as error:
        raise WireError("nested too deeply") from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise WireError("a number is too long") from error
    return value


def _no_constant(found: str) -> NoReturn:
    raise WireError("not JSON", found=found)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WireError("a key stands twice in one object", found=", ".join(key for key, _ in pairs))
    return found
