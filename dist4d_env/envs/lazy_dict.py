"""A dict that is filled when it is first looked into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class LazyDict(dict[str, Any]):
    """Equal in every way to ``make()``, which is called once, at the first access; without one, never.

    Pickled or copied it is the plain dict.
    """

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        super().__init__({"": None})  # json's encoder takes a dict without entries for empty before it looks into it
        self._make: Callable[[], dict[str, Any]] | None = make

    def _filled(self) -> dict[str, Any]:
        make, self._make = self._make, None
        if make is not None:
            super().clear()
            super().update(make())
        return self

    def __getitem__(self, key: str) -> Any:
        self._filled()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._filled()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._filled()
        super().__delitem__(key)

    def __contains__(self, key: object) -> bool:
        self._filled()
        return super().__contains__(key)

    def __iter__(self) -> Any:
        self._filled()
        return super().__iter__()

    def __len__(self) -> int:
        self._filled()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self._filled()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __repr__(self) -> str:
        self._filled()
        return super().__repr__()

    def __reduce__(self) -> Any:
        return dict, (dict(self.items()),)

    def keys(self) -> Any:
        self._filled()
        return super().keys()

    def values(self) -> Any:
        self._filled()
        return super().values()

    def items(self) -> Any:
        self._filled()
        return super().items()

    def get(self, key: str, default: Any = None) -> Any:
        self._filled()
        return super().get(key, default)

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __ior__(self, other: Any) -> Any:
        self._filled()
        return super().__ior__(other)

    def __reversed__(self) -> Any:
        self._filled()
        return super().__reversed__()

    def pop(self, *arguments: Any) -> Any:
        self._filled()
        return super().pop(*arguments)

    def popitem(self) -> Any:
        self._filled()
        return super().popitem()

    def setdefault(self, key: str, default: Any = None) -> Any:
        self._filled()
        return super().setdefault(key, default)

    def update(self, *arguments: Any, **values: Any) -> None:
        self._filled()
        super().update(*arguments, **values)

    def clear(self) -> None:
        self._make = None
        super().clear()
