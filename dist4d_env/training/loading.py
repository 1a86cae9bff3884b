"""Batches made ahead of the step in worker processes, carried to the device; several image sizes in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dist4d_env.training.samples import SampleStore

AHEAD = 2
"""Batches that each worker process prepares ahead."""


def map_tensors(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """``batch`` with ``change`` applied to every tensor in its nested dataclasses, tuples, lists and dicts; the rest is kept."""
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if is_dataclass(batch) and not isinstance(batch, type):
        return type(batch)(**{f.name: map_tensors(getattr(batch, f.name), change) for f in fields(batch)})
    if isinstance(batch, dict):
        return {key: map_tensors(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(value, change) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(map_tensors(value, change) for value in batch)
    return batch


def to_device(batch: Any, device: torch.device | str) -> Any:
    """``batch`` with every tensor on ``device``; copies from pinned memory overlap with the device's work."""
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


class Batches(Dataset):
    """The batches of a recipe by step, for one of several processes (``rank``)."""

    def __init__(self, make: Callable[[int, int], Any], first: int, last: int, rank: int) -> None:
        self.make, self.first, self.last, self.rank = make, first, last, rank

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Any:
        return Parcel(self.make(self.first + index, self.rank))


class Parcel:
    """A batch on its way from a worker; knows how to pin its memory, which the loader asks of types it does not know."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def pin_memory(self) -> Parcel:
        """The same in page-locked memory."""
        return Parcel(map_tensors(self.batch, lambda tensor: tensor.pin_memory()))


def _same(parcel: Parcel) -> Parcel:
    return parcel


def load(
    make: Callable[[int, int], Any], first: int, last: int, rank: int = 0, workers: int = 0, pin: bool = False
) -> Iterator[Any]:
    """Yield ``make(step, rank)`` for steps ``first`` to ``last - 1`` in order, on the CPU.

    workers: processes that run ahead of the step, 0 makes each batch when it is asked for; since a batch follows from its step
    and rank alone, order and bits are the same for every number. The processes start with this call, before the caller
    moves models to a device. pin: into page-locked memory, for a GPU.
    """
    loader = DataLoader(
        Batches(make, first, last, rank),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        collate_fn=_same,
        pin_memory=pin,
        generator=torch.Generator(),  # its own: the global stream stays untouched
    )
    parcels = iter(loader)
    return (parcel.batch for parcel in parcels)


def as_stores(train: SampleStore | Sequence[SampleStore]) -> tuple[SampleStore, ...]:
    """One store or several (one per image size; the first is the preset's own) as a tuple."""
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
