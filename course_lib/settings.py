"""Settings: an argument (a notebook's parameter cell) wins over the environment, the environment over the default."""

import difflib
import os
from typing import Any

from course_lib.errors import SettingsError

CHOICES = {  # the default first
    "profile": ("lesson", "smoke", "full"),
    "data": ("auto", "real", "synthetic"),
    "device": ("auto", "cpu", "cuda", "mps"),
}

OTHERS = ("seed", "data_dir", "data_url", "offline", "build_dir", "debug", "slow")
VARIABLES = [f"COURSE_{key.upper()}" for key in (*CHOICES, *OTHERS)]


def check_environment() -> None:
    """SettingsError where an environment variable looks like a setting and is none: a typing error shall not go by."""
    for name in os.environ:
        if name.startswith("COURSE_") and name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            hint = (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(VARIABLES)}"
            raise SettingsError(f"the environment variable {name} is not known", hint)


def setting(name: str, given: Any = None) -> str:
    """The value of a setting: `given`, else the environment's, else the first choice; SettingsError if it is none."""
    variable = f"COURSE_{name.upper()}"
    value = given if given is not None else os.environ.get(variable) or CHOICES[name][0]
    if value not in CHOICES[name]:
        hint = f"choose one of {', '.join(CHOICES[name])} in the parameter cell, with --{name} or in {variable}"
        raise SettingsError(f"{name} = {value!r} is not known", hint)
    return str(value)


def seed(given: int | None = None) -> int:
    """The seed: `given`, else `COURSE_SEED`, else 0. SettingsError: not a whole number of 0 or more."""
    value = given if given is not None else os.environ.get("COURSE_SEED") or 0
    if isinstance(value, bool) or not str(value).isdecimal():
        raise SettingsError(f"seed = {value!r} is not a whole number", "choose 0, 1, 2, ... in SEED or COURSE_SEED")
    return int(value)
