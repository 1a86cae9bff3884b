"""Wall-clock time per stage of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter


class Timing(Mapping[str, float]):
    """Milliseconds by stage, read like a dict.

    How long something took is no part of what happened: two timings always compare equal, so that the ``info`` of two runs of the
    same episode can be compared.
    """

    def __init__(self, milliseconds: Mapping[str, float]) -> None:
        self._milliseconds = dict(milliseconds)

    def __getitem__(self, stage: str) -> float:
        return self._milliseconds[stage]

    def __iter__(self) -> Iterator[str]:
        return iter(self._milliseconds)

    def __len__(self) -> int:
        return len(self._milliseconds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timing) or NotImplemented

    def __hash__(self) -> int:
        return hash(Timing)

    def __repr__(self) -> str:
        return f"Timing({', '.join(f'{stage}: {value:.2f} ms' for stage, value in self.items())})"


class Stopwatch:
    """``with watch("world"): ...`` adds to a stage."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + 1e3 * (perf_counter() - start)

    def timing(self, inner: Mapping[str, float]) -> Timing:
        """All stages, the world's own as ``world/...``."""
        return Timing({**self.milliseconds, **{f"world/{stage}": value for stage, value in inner.items()}})
