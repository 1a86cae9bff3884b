"""Models to and from folders of ``config.json`` and safetensors, with errors that name what is wrong."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dist4d_env.errors import WeightsError
from dist4d_env.scenes.files import recovered, replacing_folder

WEIGHTS_FILE = "model.safetensors"
SHIPPED = Path(__file__).resolve().parent.parent / "weights"

Model = TypeVar("Model", bound=ModelMixin)


def resolve_weights(weights: str | Path) -> Path:
    """The folder of a shipped preset's name or of a path written by ``save_pretrained``, with a folder for each model."""
    names, folder = sorted(part.parent.name for part in SHIPPED.glob("*/dist_t")), Path(weights)
    if str(weights) in names:
        return SHIPPED / weights
    if "\0" in str(weights) or not os.path.isdir(recovered(folder)) or not any(folder.glob("*/config.json")):
        known = ", ".join(["splat", *names])
        raise WeightsError(f"no weights at {folder}: give a folder written by save_pretrained or one of {known}")
    return folder


def save_model(model: ModelMixin, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a model's configuration and weights; floating-point weights as ``dtype`` (None keeps theirs).

    At any instant the folder is the whole old model or the whole new one. Raises ``WeightsError`` for weights that aren't finite,
    also where that is for want of range of ``dtype``.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        kept = tensor.detach().cpu()
        tensors[name] = (kept.to(dtype) if dtype is not None and kept.is_floating_point() else kept).contiguous()
        _must_be_finite(tensors[name], name, folder)
    with replacing_folder(folder) as fresh:
        save_file(tensors, str(fresh / WEIGHTS_FILE), metadata={"format": "pt"})
        model.save_config(str(fresh))
        (fresh / WEIGHTS_FILE).chmod(0o644)


def load_model(cls: type[Model], folder: Path) -> Model:
    """A model in float32 and evaluation mode from a folder of ``save_model``; ``WeightsError`` names what does not fit."""
    config, weights_file = read_config(folder), folder / WEIGHTS_FILE
    return _filled(cls, config, _read_tensors([weights_file]), folder, weights_file)


def load_diffusers(cls: type[Model], folder: Path) -> Model:
    """A model of diffusers in float32 and evaluation mode from a local folder that diffusers wrote: whole or sharded safetensors.

    Where there are several precisions, the plain one is read. Raises ``WeightsError``; pickled weights are never read.
    """
    config = read_config(folder)
    found = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
    files = [file for file in found if ".fp16" not in file.name] or found
    if not files:
        raise WeightsError(f"{folder} holds no diffusion_pytorch_model*.safetensors: download the model in that format")
    known = inspect.signature(cls).parameters
    config = {
        name: value for name, value in config.items() if name in known or name.startswith("_")
    }  # others are of other versions
    return _filled(cls, config, _read_tensors(files), folder, files[0])


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model's folder, or a ``WeightsError``."""
    file = recovered(folder) / "config.json"
    _must_exist(file)
    try:
        config = json.loads(file.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise WeightsError(f"weights in {folder} cannot be read ({error}); write them again") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{file} does not describe a model: write it again")
    return config


def _must_exist(file: Path) -> None:
    if not file.is_file():
        raise WeightsError(f"weights are incomplete: {file} is missing; train the model or choose another folder")


def _read_tensors(files: list[Path]) -> dict[str, torch.Tensor]:
    """The tensors of all files together."""
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        _must_exist(file)
        try:
            tensors.update(load_file(str(file)))
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"weights in {file.parent} cannot be read ({error}); write them again") from error
    return tensors


def _filled(
    cls: type[Model], config: dict[str, Any], tensors: dict[str, torch.Tensor], folder: Path, weights_file: Path
) -> Model:
    """A model of ``config`` that holds exactly these tensors."""
    written_for = config.get("_class_name", cls.__name__)
    if written_for != cls.__name__:
        raise WeightsError(f"{folder} holds a {written_for}, not a {cls.__name__}")
    try:
        with torch.device("meta"):  # shapes alone: nothing is drawn, and no size is too large
            model = cls(**{name: value for name, value in config.items() if not name.startswith("_")})
    except Exception as error:  # constructors, diffusers' too, raise anything for values that make no sense
        raise WeightsError(
            f"{folder / 'config.json'} does not describe a {cls.__name__}: {error or type(error).__name__}"
        ) from error
    expected = model.state_dict()
    missing = sorted(set(expected) - set(tensors))
    surplus = sorted(set(tensors) - set(expected))
    if missing or surplus:
        names = ", ".join((missing or surplus)[:3])
        raise WeightsError(f"{weights_file} is of another version: {'lacks' if missing else 'has surplus'} {names}; train again")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise WeightsError(
                f"{weights_file}: {name} has shape {tuple(tensor.shape)}, the configuration wants {tuple(expected[name].shape)}"
            )
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise WeightsError(
                f"{weights_file}: {name} holds {tensor.dtype}, not {expected[name].dtype}; write the weights again"
            )
        tensors[name] = tensor.to(expected[name].dtype, copy=True)  # the file may be replaced, which maps of it would not survive
        _must_be_finite(tensors[name], name, folder)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def _must_be_finite(tensor: torch.Tensor, name: str, folder: Path) -> None:
    if not torch.isfinite(tensor).all():
        raise WeightsError(
            f"{folder}: {name} isn't finite in {tensor.dtype}; train again, or take weights from before it diverged"
        )
