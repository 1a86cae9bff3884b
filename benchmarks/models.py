"""Size and speed of every preset's networks: parameters, arithmetic, memory, milliseconds, and share of the device's measured
matrix rate.

Parameters and arithmetic are counted on tensors without storage, so they are there for every preset on every machine. What does
not fit into memory, or would take longer than ``--max-seconds``, is not timed, and the result holds the reason.
Each network is built
and timed in a process of its own with random weights (float32 on a CPU, bfloat16 on a GPU), on six cameras:

- codec_encode, codec_decode: one chunk of RGB-D frames;
- dist_t: one evaluation for one chunk; composer: the chunk's frames at full resolution;
- dist_s: one evaluation for one frame; dist_s_vae: the frame into latents and back, where DiST-S works on latents.

    python -m benchmarks.models --out benchmarks/results/models.json
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from tqdm import tqdm

from benchmarks.common import FinishedUnits, header, run, write_json
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.models.composer import Composer
from dist4d_env.models.conditions import ATTRIBUTES, BEV_SHAPE, MASK_CHANNELS, MAX_BOXES
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.inputs import DiSTTInputs, ViewInputs
from dist4d_env.models.layout import LAYOUT_CHANNELS
from dist4d_env.models.presets import Preset, preset
from dist4d_env.models.video_codec import make_codec

VIEWS = 6
CAPTION_TOKENS = 300
PARTS = ("codec_encode", "codec_decode", "dist_t", "composer", "dist_s", "dist_s_vae")
RUNS = 10
"""At most so many timed runs; fewer where ``--max-seconds`` is over."""
START_UP = 300.0
"""Seconds that a fresh process may take to import its libraries on a busy machine."""


@dataclass(frozen=True)
class Options:
    """Parameters, arithmetic, memory and milliseconds of the networks of every preset."""

    presets: tuple[str, ...] = ("tiny", "small", "base", "paper")
    """Presets to measure."""
    device: str = "auto"
    """Where to run: "auto" takes a GPU where there is one."""
    max_seconds: float = 120.0
    """Nothing is timed that would take longer for one run; timed runs of a network end after as long."""
    quick: bool = False
    """Preset tiny alone, three seconds at most per network."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""


def main(options: Options) -> dict[str, Any]:
    names = ("tiny",) if options.quick else options.presets
    limit = min(3.0, options.max_seconds) if options.quick else options.max_seconds
    units = [(name, part) for name in names for part in PARTS if part != "dist_s_vae" or on_latents(preset(name))]
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(f"device {device!r} is not here: use cpu, or cuda on a machine that has it")
    finished = FinishedUnits(options.out, {"device": device, "limit": limit})
    if "rates" not in finished.done:
        finished.add("rates", matrix_rates(device))
    rates = finished.done["rates"]
    rate = max(rates.values())
    bar = tqdm(units, disable=None)
    for name, part in bar:
        bar.set_description(f"{name} {part}")
        if f"{name}/{part}" not in finished.done:
            finished.add(f"{name}/{part}", measure(name, part, device, rate, limit))
    rows: dict[str, Any] = {name: {p: dict(finished.done[f"{n}/{p}"]) for n, p in units if n == name} for name in names}
    for row in (row for parts in rows.values() for row in parts.values() if "device_ms" in row):
        row["fraction_of_matrix_rate"] = row["gflop"] * 1e12 / row["device_ms"] / rate
    result = header("models", options) | {
        "device": device,
        "precision": "bfloat16" if device == "cuda" else "float32",
        "matrix_flop_per_second": rates,
        "load_average": os.getloadavg()[0],
        "images": {name: f"{VIEWS} x {preset(name).height} x {preset(name).width}" for name in names},
        "results": rows,
    }
    if options.out:
        write_json(options.out, result)
    finished.finish()
    show(rows, rates)
    return result


def on_latents(one: Preset) -> bool:
    """Whether the preset's DiST-S works on latents of a VAE of its own."""
    return one.dist_s.get("backbone") == "svd"


def measure(name: str, part: str, device: str, rate: float, limit: float) -> dict[str, Any]:
    """Counts, and times or the reason why there are none."""
    counts = count(preset(name), part)
    weights = counts["parameters_m"] * 1e6 * (2 if device == "cuda" else 4)
    free, least = free_bytes(device), 1.25 * weights  # activations take a quarter as much at the very least
    seconds = counts["gflop"] * 1e9 / rate / (1 if device == "cuda" else torch.get_num_threads())
    if least > free:
        return counts | {"skipped": f"its weights need {least / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"}
    if seconds > limit:
        reason = f"one run would take at least {seconds:.0f} s at the full matrix rate, more than the limit of {limit:g} s"
        return counts | {"skipped": reason}
    return counts | in_process(timing, (name, part, device, limit), START_UP + 3 * limit + weights / 1e8)


def count(one: Preset, part: str) -> dict[str, float]:
    """Parameters in millions and 1e9 floating-point operations (two for a multiply-add) of one run, on fake tensors."""

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    # All but DiST-T treat cameras alike, and counting one of them is faster.
    views = VIEWS if part == "dist_t" else 1
    with FakeTensorMode(), torch.no_grad():
        model, step = build(one, part, views)
        mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            step()
        parameters = sum(p.numel() for p in model.parameters())
    return {"parameters_m": parameters / 1e6, "gflop": counter.get_total_flops() / 1e9 * VIEWS / views}


def build(one: Preset, part: str, views: int = VIEWS) -> tuple[torch.nn.Module, Callable[[], Any]]:
    """A network with random weights in float32 and what to run of it."""
    size, level = (one.height, one.width), torch.full((1,), 0.5)
    if part.startswith("codec"):
        codec = make_codec(one).eval()
        frames = torch.rand(1, views, one.chunk, 4, *size) * 2 - 1
        if part == "codec_encode":
            return codec, lambda: codec.encode_rgbd(frames)
        latents = torch.randn(1, views, *latent_shape(one, codec.factor, codec.time_factor))
        return codec, lambda: codec.decode_rgbd(latents)
    if part == "dist_t":
        transformer = DiSTTTransformer(**one.dist_t).eval()
        inputs = dist_t_inputs(one, views)
        noisy = torch.randn(1, views, *latent_shape(one, 8, one.dist_t.get("time_factor", 1)))
        return transformer, lambda: transformer(noisy, level, inputs, noisy[:, :, 0], noisy)
    if part == "composer":
        composer = Composer(**one.composer).eval()
        parts = [torch.rand(views, channels, *size) for channels in (4, 4, 3, len(MASK_CHANNELS), len(LAYOUT_CHANNELS))]
        seconds = torch.full((views,), 0.5)
        return composer, lambda: [composer(*parts, seconds) for _ in range(one.chunk)]
    dist_s = DiSTSUNet(**one.dist_s).eval()
    images = ViewInputs(*(torch.rand(views, channels, *size) for channels in (4, 3, len(MASK_CHANNELS))))
    if part == "dist_s_vae":
        return dist_s.svd.vae, lambda: dist_s.decode(dist_s.encode(images.base))
    prepared, noisy = dist_s.prepare(images), torch.randn(dist_s.noise_shape(images))
    network = dist_s.svd.unet if dist_s.is_svd else dist_s
    return network, lambda: dist_s.predict_clean(noisy, level.expand(views), prepared)


def latent_shape(one: Preset, factor: int, time_factor: int) -> tuple[int, ...]:
    """Of one camera's chunk, (T', C, h, w)."""
    latent_frames = 1 + (one.chunk - 1) // time_factor
    return (latent_frames, one.dist_t["latent_channels"], one.height // factor, one.width // factor)


def dist_t_inputs(one: Preset, views: int) -> DiSTTInputs:
    """Random conditions of one chunk: pixels in [0, 1], cameras looking ahead, every box row filled."""
    lead, size, frames = (1, views, one.chunk), (one.height, one.width), one.chunk
    focal = torch.diag(torch.tensor([0.6 * one.width, 0.6 * one.width, 1.0]))
    captions = one.dist_t.get("caption_dim", 0)
    return DiSTTInputs(
        reference=torch.rand(1, views, 4, *size),
        views=ViewInputs(*(torch.rand(*lead, channels, *size) for channels in (4, 3, len(MASK_CHANNELS)))),
        layout=torch.rand(*lead, len(LAYOUT_CHANNELS), *size),
        bev=torch.rand(1, frames, *BEV_SHAPE),
        box_corners=torch.randn(1, frames, MAX_BOXES, 8, 3) * 20,
        box_class=torch.randint(0, len(CATEGORIES), (1, frames, MAX_BOXES)),
        box_instance=torch.arange(MAX_BOXES).expand(1, frames, -1),
        intrinsics=focal.expand(*lead, 3, 3),
        ego_from_camera=torch.eye(4).expand(*lead, 4, 4),
        neighbours=torch.stack([torch.arange(views).roll(1), torch.arange(views).roll(-1)], -1)[None],
        trajectory=torch.eye(4).expand(1, frames, 4, 4),
        interval=torch.linspace(0.1, 1.5, frames)[None],
        attributes=torch.zeros(1, len(ATTRIBUTES)),
        controlled=torch.ones(1, dtype=torch.bool),
        captions=torch.randn(1, CAPTION_TOKENS, captions) if captions else None,
    )


def timing(name: str, part: str, device: str, limit: float) -> dict[str, Any]:
    """Milliseconds and peak memory of one network, weights and inputs included; to be run in its own process.

    ms, best_ms: by the clock on the wall; device_ms: the mean time of the device itself, on a CPU that of all cores together,
    which other programs on the machine change little.
    """
    torch.manual_seed(0)
    before = resident_bytes()
    durations: list[float] = []
    worked: list[float] = []
    cast = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else nullcontext()
    with torch.no_grad(), cast:
        with torch.device(device):
            model, step = build(preset(name), part)
        if all(p.ndim < 5 for p in model.parameters()):
            model.to(memory_format=torch.channels_last)
        if device == "cuda":
            model.to(torch.bfloat16)
            torch.cuda.reset_peak_memory_stats()
        step()
        end = time.perf_counter() + limit
        while len(durations) < RUNS and (not durations or time.perf_counter() + durations[-1] < end):
            begin, clock = time.perf_counter(), time.process_time()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            durations.append(time.perf_counter() - begin)
            worked.append(durations[-1] if device == "cuda" else time.process_time() - clock)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else peak_bytes() - before
    median = 1e3 * sorted(durations)[len(durations) // 2]
    mean = 1e3 * sum(worked) / len(worked)
    times = {"ms": median, "best_ms": 1e3 * min(durations), "device_ms": mean, "runs": len(durations)}
    return times | {"peak_memory_mib": peak / 2**20}


def matrix_rates(device: str) -> dict[str, float]:
    """Floating-point operations per second of the device (on a CPU: of one core), the best of many runs of a large matrix product
    and of a large convolution: on some CPUs the libraries behind the two differ by a factor of two.
    """
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    a, b = torch.randn(size, size, device=device, dtype=dtype), torch.randn(size, size, device=device, dtype=dtype)
    convolution = torch.nn.Conv2d(128, 128, 3, padding=1).to(device, dtype).to(memory_format=torch.channels_last)
    side = size // 16
    images = torch.randn(1, 128, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    clock = time.perf_counter if device == "cuda" else time.process_time

    def best(step: Callable[[], torch.Tensor]) -> float:
        seconds = []
        for _ in range(20):
            begin = clock()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(clock() - begin)
        return min(seconds)

    with torch.no_grad():
        product, filtering = best(lambda: a @ b), best(lambda: convolution(images))
    return {"product": 2 * size**3 / product, "convolution": 2 * 9 * 128**2 * side**2 / filtering}


def in_process(function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...], limit: float) -> dict[str, Any]:
    """Result of the function in a fresh process, or the reason why there is none: too slow, or out of memory."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, function, arguments), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(limit):
            return {"skipped": f"it was not done after {limit:.0f} s"}
        return here.recv()
    except EOFError:
        process.join()
        return {"skipped": f"its process ended with status {process.exitcode}, as for want of memory"}
    finally:
        process.kill()
        process.join()


def _send(there: Any, function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    try:
        there.send(function(*arguments))
    except (torch.OutOfMemoryError, MemoryError) as error:
        there.send({"skipped": f"it ran out of memory ({str(error).splitlines()[0]})"})


def free_bytes(device: str) -> float:
    """Memory that is free on the device."""
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return 1024.0 * float(fields["MemAvailable"].split()[0])


def resident_bytes() -> float:
    """Memory that this process holds now."""
    return float(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_bytes() -> float:
    """The most memory that this process ever held."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def show(rows: dict[str, Any], rates: dict[str, float]) -> None:
    """One line per network."""
    print("; ".join(f"{kind}: {rate / 1e9:.0f} GFLOP/s" for kind, rate in rates.items()))
    print(f"{'':<22}{'parameters':>12}{'GFLOP':>12}{'memory':>12}{'median':>12}{'device':>12}{'of rate':>9}")
    for name, parts in rows.items():
        for part, row in parts.items():
            line = f"{name + ' ' + part:<22}{row['parameters_m']:>10.1f} M{row['gflop']:>12.1f}"
            if "skipped" in row:
                print(line, "  not timed:", row["skipped"])
                continue
            share = f"{row['fraction_of_matrix_rate']:>9.0%}"
            print(f"{line}{row['peak_memory_mib']:>8.0f} MiB{row['ms']:>9.1f} ms{row['device_ms']:>9.1f} ms{share}")


if __name__ == "__main__":
    run(main, Options)
