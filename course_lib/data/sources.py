"""The table of data sets, `sources.toml`: where each comes from, how large it is, who may use it, whom to cite."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from course_lib.errors import DataError


@dataclass(frozen=True)
class Source:
    """One data set as its publisher offers it."""

    name: str
    title: str
    archive: str  # its name in the cache and in a mirror
    urls: Sequence[str]  # asked in this order
    size: int  # bytes of that archive; a round number where the publisher does not say
    licence: str
    citation: str
    homepage: str  # where a person finds the download
    checksum: str | None = None  # "sha256:..." or "md5:..."; None: recorded at the first download, checked after
    alternatives: Sequence[str] = ()  # archives that a mirror may hold instead: a part, or another layout
    by_hand: str = ""  # how to get it, where placing one file does not do


_TABLE = tomllib.loads(resources.files("course_lib.data").joinpath("sources.toml").read_text("utf-8"))
SOURCES = {name: Source(name, **entry) for name, entry in _TABLE.items()}


def source(name: str) -> Source:
    """The data set called `name`. Raises DataError, with the known names, if there is none."""
    if name not in SOURCES:
        raise DataError(f"no data set named {name!r}", f"known: {', '.join(SOURCES)}")
    return SOURCES[name]
