"""Models to and from folders of ``config.json`` and safetensors, with errors that name what is wrong."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dist4d_env.errors import WeightsError

WEIGHTS_FILE = "model.safetensors"
SHIPPED = Path(__file__).resolve().parent.parent / "weights"

Model = TypeVar("Model", bound=ModelMixin)


def resolve_weights(weights: str | Path) -> Path:
    """The folder of a shipped preset's name or of a path written by ``save_pretrained``."""
    shipped = SHIPPED / str(weights)
    if str(weights) and "/" not in str(weights) and shipped.is_dir():
        return shipped
    folder = Path(weights)
    if not folder.is_dir():
        names = sorted(part.parent.name for part in SHIPPED.glob("*/dist_t"))
        known = ", ".join(["splat", *names])
        raise WeightsError(f"no weights at {folder}: give a folder written by save_pretrained or one of {known}")
    return folder


def save_model(model: ModelMixin, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a model's configuration and weights, all or nothing; floating-point weights as ``dtype`` (None keeps theirs)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        tensors = {}
        for name, tensor in model.state_dict().items():
            kept = tensor.detach().cpu()
            tensors[name] = (kept.to(dtype) if dtype is not None and kept.is_floating_point() else kept).contiguous()
        save_file(tensors, str(fresh / WEIGHTS_FILE), metadata={"format": "pt"})
        model.save_config(str(fresh))
        fresh.chmod(0o755)
        (fresh / WEIGHTS_FILE).chmod(0o644)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def load_model(cls: type[Model], folder: Path) -> Model:
    """A model in float32 and evaluation mode from a folder of ``save_model``; ``WeightsError`` names what does not fit."""
    weights_file = folder / WEIGHTS_FILE
    config = read_config(folder)
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
    return _filled(cls, config, _read_tensors(files), folder, files[0])


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model's folder, or a ``WeightsError``."""
    file = folder / "config.json"
    _must_exist(file)
    try:
        config = json.loads(file.read_text())
    except (ValueError, OSError) as error:
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
        model = cls.from_config(config)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{folder / 'config.json'} does not describe a {cls.__name__} ({error})") from error
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
    model.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()})
    return model.eval()
