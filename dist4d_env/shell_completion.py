"""``dist4d completion bash|zsh|fish``: the script with which a shell completes verbs, options and their values."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from tyro.conf import Positional

from dist4d_env import json_output
from dist4d_env.errors import ConfigError
from dist4d_env.progress import each
from dist4d_env.verbs import VERBS, module_of, with_json

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "dist4d"


@dataclass(frozen=True)
class Options:
    """Print the script that lets a shell complete `dist4d`, its verbs, options and their values; docs/commands.md says where the
    shells look for it. Make it again after an update."""

    shell: Positional[Literal["bash", "zsh", "fish"]]
    """The shell."""


def run(options: Options) -> int:
    """Prints the script, some ten seconds after: every verb is asked for its options."""
    text = script(options.shell)
    print(text)
    json_output.result({"shell": options.shell, "script": text})
    return 0


def script(shell: str) -> str:
    """The script of a shell, which tyro writes. Raises ConfigError where the installed version cannot."""
    import tyro

    kinds = tuple(
        Annotated[with_json(module_of(verb).Options), tyro.conf.subcommand(verb, description=line)]
        for verb, (_, line) in each(VERBS.items(), "asking verbs", "verb")
    )
    every: Any = Union[kinds]  # noqa: UP007 (of types that are known only now)
    asked = ["--tyro-write-completion", shell, "-"]
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            tyro.cli(every, prog=PROGRAM, args=asked, config=(tyro.conf.OmitSubcommandPrefixes,))
    except (SystemExit, AssertionError) as end:  # with the former tyro ends, with the latter it refuses shells in some versions
        if not isinstance(end, SystemExit) or end.code:
            raise ConfigError(f"tyro {tyro.__version__} writes no completion for {shell}: pip install --upgrade tyro") from end
    return said.getvalue().rstrip()
