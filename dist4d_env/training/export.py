"""``python -m dist4d_env.training.export``: finished runs to one folder of weights that every ``weights=`` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dist4d_env.errors import ConfigError, WeightsError, run_script
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.video_codec import encode_alike
from dist4d_env.scenes.files import keep_beside, replacing_folder


@dataclass(frozen=True)
class Options:
    """Gather a DiST-T run (with its codec) and a DiST-S run into one folder, at half precision."""

    dist_t: Path
    """Run folder of train dist-t."""
    dist_s: Path
    """Run folder of train dist-s."""
    out: Path
    """Folder to write codec/, dist_t/, composer/ and dist_s/ into; it is replaced as a whole, with the files beside them."""
    blend: tuple[Path, ...] = ()
    """Runs of train dist-t that went on from --dist-t, or from where it began: weights between them are written (Wortsman et al.,
    2022)."""
    blend_s: tuple[Path, ...] = ()
    """The same of runs of train dist-s and --dist-s."""
    blend_share: float = 0.5
    """How far the weights are moved towards the mean of --blend and --blend-s, 0 to 1."""
    most_detail: float | None = None
    """Bound of the detail that the composer may add to RGB, whose range is 2: less makes fewer bright and dark specks."""


def run(options: Options) -> int:
    """Write the weights as float16 safetensors; 0 when done. Raises ``WeightsError`` where a run has none."""
    dist_t = DiSTTPipeline.from_pretrained(options.dist_t / "weights")
    if not 0 <= options.blend_share <= 1:
        raise ConfigError(f"blend_share must be between 0 and 1, not {options.blend_share}")
    if options.blend:
        blend(dist_t, [DiSTTPipeline.from_pretrained(run / "weights") for run in options.blend], options.blend_share)
    if options.most_detail is not None:
        if options.most_detail <= 0:
            raise ConfigError(f"most_detail is a bound above 0, not {options.most_detail}")
        dist_t.composer.register_to_config(most_detail=options.most_detail)
    dist_s = DiSTSPipeline.from_pretrained(options.dist_s / "weights")
    if options.blend_s:
        others = [DiSTSPipeline.from_pretrained(run / "weights").unet for run in options.blend_s]
        move(dist_s.unet, others, options.blend_share)
    with replacing_folder(options.out) as fresh:
        dist_t.save_pretrained(fresh, torch.float16)
        dist_s.save_pretrained(fresh, torch.float16)
        keep_beside(options.out, fresh)
    size = sum(file.stat().st_size for file in options.out.rglob("*.safetensors"))
    print(f"{options.out}: {size / 1e6:.1f} MB of weights")
    return 0


def blend(pipeline: DiSTTPipeline, others: Sequence[DiSTTPipeline], share: float) -> None:
    """Move the weights of DiST-T, of its composer and of the codec's decoder by ``share`` towards other runs' mean, in place.

    Raises ``WeightsError`` where the runs' encoders or shapes differ.
    """
    if not all(encode_alike(pipeline.codec, other.codec) for other in others):
        raise WeightsError("runs whose encoders differ cannot be blended: train both with the same --codec")
    for part in ("transformer", "composer", "codec"):
        move(getattr(pipeline, part), [getattr(other, part) for other in others], share)


def move(model: nn.Module, others: Sequence[nn.Module], share: float) -> None:
    """Move weights by ``share`` towards other runs' mean, in place. Raises ``WeightsError`` where shapes differ."""
    mine, theirs = model.state_dict(), [other.state_dict() for other in others]
    shapes = [{key: tensor.shape for key, tensor in state.items()} for state in (mine, *theirs)]
    if any(shape != shapes[0] for shape in shapes):
        raise WeightsError("runs of different sizes cannot be blended: they must have begun from the same weights")
    means = {key: torch.stack([state[key] for state in theirs]).mean(0) for key in mine}
    model.load_state_dict({key: torch.lerp(value, means[key], share) for key, value in mine.items()})


if __name__ == "__main__":
    run_script(run, Options)
