"""Loading: batches made ahead of the step in worker processes, moved to the device; several image sizes in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dist4d_env.training.samples import SampleStore

AHEAD = 2
"""Batches that each worker process prepares ahead."""
Item = TypeVar("Item")


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Up to ``most`` of them, evenly spread, always the same ones."""
    return [items[k] for k in np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)]


def to_device(batch: Any, device: torch.device | str) -> Any:
    """``batch`` with every tensor of its nested (named) tuples on ``device``, copied from pinned memory without waiting."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, tuple):
        moved = [to_device(part, device) for part in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else tuple(moved)
    return batch


class Batches(Dataset):
    """The batches of a recipe by step, for one of several processes (``rank``)."""

    def __init__(self, make: Callable[[int, int], Any], first: int, last: int, rank: int) -> None:
        self.make, self.first, self.last, self.rank = make, first, last, rank

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Any:
        return self.make(self.first + index, self.rank)


def _unchanged(batch: Any) -> Any:
    return batch


def load(
    make: Callable[[int, int], Any], first: int, last: int, rank: int = 0, workers: int = 0, pin: bool = False
) -> Iterator[Any]:
    """Yield ``make(step, rank)`` for steps ``first`` to ``last - 1`` in order, on the CPU.

    workers: processes that run ahead of the step, 0 makes each batch when it is asked for; since a batch follows from its step
    and rank alone, order and bits are the same for every number. The processes start with this call, before the caller
    moves models to a device. pin: into page-locked memory, for a GPU.
    """
    return iter(
        DataLoader(
            Batches(make, first, last, rank),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            collate_fn=_unchanged,
            pin_memory=pin,
            generator=torch.Generator(),  # its own: the global stream stays untouched
        )
    )


def as_stores(train: SampleStore | Sequence[SampleStore]) -> tuple[SampleStore, ...]:
    """One store or several (one per image size and data set) as a tuple."""
    return (train,) if isinstance(train, SampleStore) else tuple(train)


def choose_store(
    stores: Sequence[SampleStore], batch: int, size: tuple[int, int], generator: np.random.Generator
) -> tuple[SampleStore, int]:
    """One of the stores, each as likely, and how many of its samples make about the pixels of ``batch`` images of ``size``.

    size: (height, width) of the preset. A single store draws nothing from the generator.
    """
    store = stores[int(generator.integers(len(stores)))] if len(stores) > 1 else stores[0]
    pixels = store.settings.height * store.settings.width
    return store, max(1, round(batch * size[0] * size[1] / pixels))
