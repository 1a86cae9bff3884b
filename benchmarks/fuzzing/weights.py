"""Folders of weights as they come from a broken disk, another program or an editor: every model, configuration and tensor."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from safetensors.torch import load, save

from dist4d_env.errors import LONGEST, WeightsError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.inputs import DiSTTInputs, ViewInputs
from dist4d_env.models.pretrained import WEIGHTS_FILE, load_model, save_model
from dist4d_env.models.segmenter import TownSegmenter
from dist4d_env.models.video_codec import VideoCodec, load_codec

SLOWEST = 20.0
"""Seconds within which any folder is loaded or refused, also on a busy machine; a fraction of one is usual."""
HEIGHT, WIDTH, VIEWS = 32, 48, 2
ABSURD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 100_000, 10**30, 10**400, 1.5, -2.5, 0.0, 1e308, -1e308, float("nan"), float("inf"),
    "", "x", "\0", "log", "\ud800", "a" * 1000, [], [[]], [0], [-1], [1.5], [None], ["x"], [1], [10**30], [True, True], [8, 8],
    [-1, -1], [64, -1], [16, 16, 16, 16, 16, 16], [1] * 1000, {}, {"x": 1}, {"layers_per_block": 10**30}, {"in_channels": None},
)  # fmt: skip
TEXTS = (
    b"", b" ", b"null", b"[]", b"{}", b"3", b'"x"', b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"\0" * 100,
    b"{'a': 1}",
    b'{"blocks": ' + b"9" * 5000 + b"}", b'{"_class_name": null}', b'{"_class_name": ["RGBDCodec"]}',
    b'{"_class_name": "Nothing"}',
    b'{"blocks": NaN}', b'{"": 1}', b'{"self": 1}',
)  # fmt: skip


class Kind(NamedTuple):
    """How a model is made, read, and tried: ``use`` gives what must be finite, and of what shape it must be."""

    make: Callable[[], Any]
    read: Callable[[Path], Any]
    use: Callable[[Any], tuple[torch.Tensor, tuple[int, ...]]]


def _codec(model: Any) -> tuple[torch.Tensor, tuple[int, ...]]:
    shape = (1, 1, 1 + model.time_factor, 4, HEIGHT, WIDTH)
    return model.decode_rgbd(model.encode_rgbd(torch.zeros(shape))), shape


def _views(*leading: int) -> ViewInputs:
    return ViewInputs(*(torch.full((*leading, channels, HEIGHT, WIDTH), 0.5) for channels in (4, 3, 4)))


def _composed(model: Any) -> tuple[torch.Tensor, tuple[int, ...]]:
    image, _ = model(torch.zeros(1, 4, HEIGHT, WIDTH), *_views(1), torch.zeros(1, 8, HEIGHT, WIDTH), torch.ones(1))
    return image, (1, 4, HEIGHT, WIDTH)


def _completed(model: Any) -> tuple[torch.Tensor, tuple[int, ...]]:
    views = _views(1)
    clean, _ = model.predict_clean(torch.zeros(model.noise_shape(views)), torch.ones(1), views)
    return model.decode(clean), (1, 4, HEIGHT, WIDTH)


def _classes(model: Any) -> tuple[torch.Tensor, tuple[int, ...]]:
    return model(torch.zeros(1, 3, HEIGHT, WIDTH)), (1, 5, HEIGHT, WIDTH)


def _foreseen(model: Any) -> tuple[torch.Tensor, tuple[int, ...]]:
    frames, channels = 1 + model.config.time_factor, model.config.latent_channels
    camera = torch.eye(3).expand(1, VIEWS, frames, 3, 3)
    inputs = DiSTTInputs(
        reference=torch.zeros(1, VIEWS, 4, HEIGHT, WIDTH), views=_views(1, VIEWS, frames),
        layout=torch.zeros(1, VIEWS, frames, 8, HEIGHT, WIDTH), bev=torch.zeros(1, frames, 8, 200, 200),
        box_corners=torch.zeros(1, frames, 24, 8, 3), box_class=torch.zeros(1, frames, 24, dtype=torch.int64),
        box_instance=torch.zeros(1, frames, 24, dtype=torch.int64), intrinsics=camera,
        ego_from_camera=torch.eye(4).expand(1, VIEWS, frames, 4, 4), neighbours=torch.tensor([[[1, 1], [0, 0]]]),
        trajectory=torch.eye(4).expand(1, frames, 4, 4), interval=torch.ones(1, frames), attributes=torch.zeros(1, 4),
        controlled=torch.ones(1, dtype=torch.bool),
    )  # fmt: skip
    latents = torch.zeros(1, VIEWS, 2, channels, HEIGHT // 8, WIDTH // 8)
    return model.predict_clean(latents, torch.ones(1), inputs, latents[:, :, 0], latents), tuple(latents.shape)


UNET = {
    "down_block_types": ["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
    "up_block_types": ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"],
    "block_out_channels": [32, 64], "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 24,
    "layers_per_block": 1, "cross_attention_dim": 16, "num_attention_heads": [2, 4], "transformer_layers_per_block": 1,
    "num_frames": 25, "sample_size": None, "in_channels": 20, "out_channels": 8,
}  # fmt: skip
FRAME_VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4, "block_out_channels": [32] * 4, "layers_per_block": 1, "latent_channels": 4,
    "scaling_factor": 0.18215, "force_upcast": True, "sample_size": 32, "in_channels": 3, "out_channels": 3,
}  # fmt: skip
VIDEO_VAE = {
    "block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "norm_num_groups": 4, "in_channels": 3, "out_channels": 3,
    "down_block_types": ["CogVideoXDownBlock3D"] * 4, "up_block_types": ["CogVideoXUpBlock3D"] * 4, "act_fn": "silu",
    "norm_eps": 1e-6, "temporal_compression_ratio": 4, "sample_height": 480, "sample_width": 720, "scaling_factor": 1.15258426,
    "shift_factor": None, "latents_mean": None, "latents_std": None, "force_upcast": True, "use_quant_conv": False,
    "use_post_quant_conv": False, "invert_scale_latents": False,
}  # fmt: skip
KINDS: dict[str, Kind] = {
    "codec": Kind(lambda: RGBDCodec(4, 8, 8, 1), load_codec, _codec),
    "video_codec": Kind(lambda: VideoCodec(4, vae=VIDEO_VAE), load_codec, _codec),
    "dist_t": Kind(
        lambda: DiSTTTransformer(8, 32, 2, 2, 1, 2.0, image_size=(64, 112)), lambda f: load_model(DiSTTTransformer, f), _foreseen
    ),
    "composer": Kind(lambda: Composer((8, 8), 1, 0.4), lambda f: load_model(Composer, f), _composed),
    "dist_s": Kind(lambda: DiSTSUNet((8, 8), 1), lambda f: load_model(DiSTSUNet, f), _completed),
    "svd": Kind(
        lambda: DiSTSUNet(backbone="svd", unet=UNET, vae=FRAME_VAE), lambda f: load_model(DiSTSUNet, f), _completed
    ),
    "segmenter": Kind(lambda: TownSegmenter((8, 8), 1), lambda f: load_model(TownSegmenter, f), _classes),
}  # fmt: skip


@cache
def whole(kind: str) -> tuple[str, bytes]:
    """The configuration and the weights of a small model that is in order."""
    import tempfile

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        save_model(KINDS[kind].make(), Path(folder) / kind)
        place = Path(folder) / kind
        return (place / "config.json").read_text(), (place / WEIGHTS_FILE).read_bytes()


def places(kind: str) -> list[tuple[str, ...]]:
    """Every field of a model's configuration, also within ``unet`` and ``vae``."""
    config = json.loads(whole(kind)[0])
    within = [(name, key) for name, value in config.items() if isinstance(value, dict) for key in value]
    return [*((name,) for name in config), *within]


class Case(NamedTuple):
    """kind: of model; part: what is wrong with it; how: details."""

    kind: str
    part: str
    how: Any


def config_cases() -> list[Case]:
    """Every absurd value in every field."""
    return [Case(kind, "field", (place, value)) for kind in KINDS for place in places(kind) for value in ABSURD]


_WHERE = st.floats(0, 1, exclude_max=True)
_TENSORS = ("nan", "inf", "shape", "integer", "half", "complex", "missing", "renamed", "twice")
CASES: st.SearchStrategy[Case] = st.deferred(lambda: st.one_of(
    st.sampled_from(config_cases()), st.sampled_from(config_cases()),
    st.builds(Case, st.sampled_from(sorted(KINDS)), st.just("text"), st.sampled_from(TEXTS) | st.binary(max_size=200)),
    st.builds(Case, st.sampled_from(sorted(KINDS)), st.sampled_from(_TENSORS), _WHERE),
    st.builds(Case, st.sampled_from(sorted(KINDS)), st.sampled_from(("cut", "cut config", "without")), _WHERE),
    st.builds(Case, st.sampled_from(sorted(KINDS)), st.just("header"), st.tuples(_WHERE, st.integers(0, 255))),
    st.builds(Case, st.sampled_from(sorted(KINDS)), st.just("other"), st.sampled_from(sorted(KINDS))),
    st.builds(Case, st.sampled_from(sorted(KINDS)), st.sampled_from(("pickle", "torch", "nothing wrong")), st.none()),
))  # fmt: skip


def attempt(case: Case, folder: Path) -> str:
    """Writes the folder, loads the model and uses it once."""
    place, kind = folder / case.kind, KINDS[case.kind]
    place.mkdir()
    config, weights = _broken(case)
    (place / "config.json").write_bytes(config)
    if weights is not None:
        (place / WEIGHTS_FILE).write_bytes(weights)
    begun = time.monotonic()
    try:
        model = kind.read(place)
    except WeightsError as error:
        assert len(str(error)) <= LONGEST and str(folder)[:20] in str(error), f"unclear: {error}"
        return "refused"
    finally:
        assert time.monotonic() - begun < SLOWEST, "silent: it takes for ever"
    if case.part in ("nan", "inf", "shape", "integer", "complex", "missing", "renamed", "pickle", "torch", "cut"):
        raise AssertionError(f"silent: {case.kind} loads in spite of {case.part}")
    if case.part == "field":
        _same_sort(case)
    with torch.no_grad():
        made, shape = kind.use(model)
    assert tuple(made.shape) == shape and torch.isfinite(made).all(), f"silent: {case} makes {tuple(made.shape)}, or nan"
    return "accepted"


def _same_sort(case: Case) -> None:
    """A value that is taken is of the sort of the one that it replaces, or that one's may be left out."""
    (name, *within), value = case.how
    before = json.loads(whole(case.kind)[0])[name]
    before = before[within[0]] if within else before
    sorts = {type(before), type(None)} if before is None or name == "most_detail" else {type(before)}
    sorts |= {int, float, list} if before is None else {int} if isinstance(before, float) else set()
    sorts |= {list} if type(before) is int else {int} if type(before) is list else set()  # diffusers' "one for all levels"
    allowed = name.startswith("_") or type(value) in sorts or (name in ("unet", "vae") and value is None)
    assert allowed, f"silent: {case.kind} takes {name} {within} {value!r:.60}"


def _broken(case: Case) -> tuple[bytes, bytes | None]:
    """config.json and the weights, None for no file."""
    text, weights = whole(case.kind)
    config = text.encode()
    if case.part == "field":
        (name, *within), value = case.how
        values = json.loads(text)
        (values[name] if within else values)[within[0] if within else name] = value
        return json.dumps(values).encode(), weights
    if case.part in _TENSORS:
        return config, save(_changed(load(weights), case.part, case.how))
    if case.part == "header":
        size, (where, byte) = int.from_bytes(weights[:8], "little"), case.how
        at = int(where * (8 + size))
        return config, weights[:at] + bytes([byte]) + weights[at + 1 :]
    changes: dict[str, Callable[[], tuple[bytes, bytes | None]]] = {
        "text": lambda: (case.how, weights),
        "cut": lambda: (config, weights[: int(case.how * len(weights))]),
        "cut config": lambda: (config[: int(case.how * len(config))], weights),
        "without": lambda: (config, None),
        "other": lambda: (config, whole(case.how)[1]),
        "pickle": lambda: (config, pickle.dumps({"state": [1, 2]})),
        "torch": lambda: (config, _zip()),
        "nothing wrong": lambda: (config, weights),
    }
    return changes[case.part]()


def _changed(tensors: dict[str, torch.Tensor], part: str, where: float) -> dict[str, torch.Tensor]:
    name = sorted(tensors)[int(where * len(tensors))]
    tensor = tensors[name]
    if part in ("nan", "inf"):
        tensor.view(-1)[int(where * tensor.numel())] = float(part)
    elif part == "shape":
        tensors[name] = torch.cat([tensor, tensor])
    elif part in ("integer", "half", "complex"):
        tensors[name] = tensor.to({"integer": torch.int64, "half": torch.float16, "complex": torch.complex64}[part])
    else:
        del tensors[name]
        tensors |= {"missing": {}, "renamed": {name + "x" * 400: tensor}, "twice": {name: tensor, "again": tensor.clone()}}[part]
    return tensors


@cache
def _zip() -> bytes:
    """What ``torch.save`` writes: a zip file with a pickle in it."""
    import io

    file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file)
    return file.getvalue()
