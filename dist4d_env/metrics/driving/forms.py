"""Forms of a score that another project's code defines: faithful to that code, or with its known defects corrected."""

from __future__ import annotations

from typing import Literal

from dist4d_env.errors import ConfigError

Form = Literal["faithful", "corrected"]

FORMS = ("faithful", "corrected")
"""faithful: the original's number, its defects included; corrected: each known defect mended. Tables name the form."""


def is_faithful(form: str) -> bool:
    """Whether a form is the faithful one. ConfigError if it is neither."""
    if form not in FORMS:
        raise ConfigError(f"form={form!r} is unknown; choose one of {', '.join(FORMS)}")
    return form == "faithful"
