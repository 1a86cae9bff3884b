"""The training script runs for real: a few drives and gradient steps, stopped and continued, twice the same."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from agents import train_end_to_end as script
from agents.end_to_end_data import FRAMES, Examples, augmented, load_samples
from agents.train_end_to_end import Options, main
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError, DiST4DError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.learning.end_to_end import EndToEndConfig, EndToEndPlanner
from dist4d_env.learning.end_to_end_network import load_network

pytestmark = pytest.mark.medium
SMALL = {"scenes": "val", "held_out": 1, "horizon": 2.5, "episodes": 2, "scored": 1, "epochs": 2, "batch": 8}


def small(out: Path, town: Path, **keywords) -> Options:
    return Options(out=out, dataroot=town, **{**SMALL, "rounds": 1, **keywords})


@pytest.fixture(scope="module")
def done(tmp_path_factory, town_dataroot):
    return main(small(tmp_path_factory.mktemp("run"), town_dataroot, rounds=2))


def test_a_short_run_leaves_what_it_promises(done, town_dataroot):
    curve = json.loads((done / "curve.json").read_text())
    assert list(curve) == ["constant_velocity", "lane_keeping", "idm", "pdm_closed", "round_0", "round_1"]
    assert all(0 <= point["pdms"] <= 1 for point in curve.values())
    assert "epoch 2 of 2" in (done / "log.txt").read_text()
    planner = EndToEndPlanner(EndToEndConfig(done / "best"))
    assert planner.trained.about["samples"] > 0 and planner.trained.cameras[1] == "CAM_FRONT"
    with np.load(done / "data" / "round_0" / "town-val-0000.npz") as drives:
        assert set(drives.files) == set(FRAMES) and drives["rgb"].shape[1:] == (3, 64, 112, 3)
        assert drives["rgb"].std() > 10 and drives["hints"][:, 0].any() and drives["hints"][:, 3].mean() > 0.1


def test_samples_and_their_mirror(done):
    _, config = load_network(done / "round_0")
    samples = load_samples([done / "data" / "round_0" / "town-val-0000.npz"], config).plain
    rows = np.arange(len(samples.arrays["state"]))
    here, there = samples.batch(rows), samples.batch(rows, mirror=True)
    assert torch.equal(here["beside"], -there["beside"]) and torch.equal(here["speed"], there["speed"])
    twice = Examples({name: value.numpy() for name, value in there.items()}).batch(rows, mirror=True)
    for name, value in here.items():
        assert torch.equal(value, twice[name].to(value.dtype)), name
    cells, turned = here["cells"].long(), there["cells"].long().flip(-1)
    known = cells >= 0
    assert torch.equal(cells[known] // 24, turned[known] // 24)
    assert torch.equal(cells[known] % 24, 23 - turned[known] % 24)


def test_earlier_views_are_those_of_the_same_episode(done):
    path = done / "data" / "round_0" / "town-val-0000.npz"
    with np.load(path) as drives:
        episode, time = drives["episode"], drives["time"]
    twice = load_samples([path, path], load_network(done / "round_0")[1])
    assert np.array_equal(twice.views[:, 0], np.arange(2 * len(time)))
    for row, (_, *before) in enumerate(twice.views[len(time) :]):
        for view, ago in zip(before, (0.5, 1.0), strict=True):
            there = np.flatnonzero((episode == episode[row]) & np.isclose(time, time[row] - ago))
            assert view == (there[0] + len(time) if len(there) else -1)


def test_files_are_lifted_one_by_one(done):
    """Into the same bits as all at once, in less memory."""
    path = done / "data" / "round_0" / "town-val-0000.npz"
    samples = load_samples([path] * 6, load_network(done / "round_0")[1])
    own = len(samples) // 6
    assert samples.parts == tuple(range(k * own, (k + 1) * own) for k in range(6))
    found, peaks = [], []
    for parts in (samples.parts, (range(6 * own),)):
        one = replace(samples, parts=parts)
        tracemalloc.start()
        lifted = one.lifted(np.random.default_rng(0)).arrays
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        found.append([*lifted.values(), *one.plain.arrays.values()])
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(*found, strict=True))
    assert peaks[0] < 0.75 * peaks[1], peaks


def test_every_pass_learns_from_other_pictures(done):
    """Augmented as the generator says, whatever the number of threads; the answers stay."""
    samples = load_samples([done / "data" / "round_0" / "town-val-0000.npz"], load_network(done / "round_0")[1])
    threads = torch.get_num_threads()
    try:
        passes = []
        for count, seed in ((1, 0), (3, 0), (1, 1)):
            torch.set_num_threads(count)
            passes.append(samples.lifted(np.random.default_rng(seed)).arrays)
    finally:
        torch.set_num_threads(threads)
    first, same, other = passes
    assert all(np.array_equal(first[name], same[name]) for name in first)
    for name in ("rgb", "counts", "cells"):
        assert not np.array_equal(first[name], other[name]) and not np.array_equal(first[name], samples.plain.arrays[name])
    for name in ("speed", "beside", "brake", "light", "hints", "state"):
        assert np.array_equal(first[name], other[name]) and np.array_equal(first[name], samples.plain.arrays[name])
    assert samples.lifted(np.random.default_rng(0), 0.0) is samples.plain


def test_augmented_pictures_show_the_same_with_outlines_elsewhere():
    """A near pole before a far wall: both stay what and about where they are, on pixel centres of another renderer."""
    rgb, depth = np.full((2, 64, 112, 3), 200, np.uint8), np.full((2, 64, 112), 40.0, np.float32)
    rgb[:, :, 50:60], depth[:, :, 50:60] = 20, 8.0
    same = augmented(rgb, depth, np.random.default_rng(0), 0.0)
    assert np.array_equal(same[0], rgb) and np.array_equal(same[1], depth)
    colours, metres = augmented(rgb, depth, np.random.default_rng(0))
    again = augmented(rgb, depth, np.random.default_rng(0))
    assert np.array_equal(colours, again[0]) and np.array_equal(metres, again[1])
    pole = metres < 20
    assert not pole[..., :46].any() and pole[..., 54:56].all() and not pole[..., 64:].any()
    assert (pole != (depth < 20)).any() and (pole != pole[:, :1]).any() and (pole[0] != pole[1]).any()
    assert np.abs(metres[pole] / 8 - 1).max() < 0.1 and np.abs(metres[~pole] / 40 - 1).max() < 0.1
    assert colours[..., 54:56, :].max() < 30 and colours[..., :40, :].min() > 150
    assert len(np.unique(colours[:, 32, 20, 0])) == 2, "each camera is as bright as it likes"
    flat = np.full((1, 64, 112), 40.0, np.float32)
    means = [augmented(rgb[:1], flat, np.random.default_rng(seed))[0][0, 32, 54:56].mean() for seed in range(8)]
    assert np.std(means) > 0.5


def test_more_rounds_go_on_and_other_options_are_refused(tmp_path, town_dataroot):
    main(small(tmp_path, town_dataroot))
    first = load_file(tmp_path / "round_0" / "network.safetensors")
    written = (tmp_path / "data" / "round_0" / "town-val-0000.npz").stat().st_mtime_ns
    main(small(tmp_path, town_dataroot, rounds=2))
    assert (tmp_path / "data" / "round_0" / "town-val-0000.npz").stat().st_mtime_ns == written
    assert torch.equal(first["flat.0.weight"], load_file(tmp_path / "round_0" / "network.safetensors")["flat.0.weight"])
    assert not torch.equal(first["flat.0.weight"], load_file(tmp_path / "round_1" / "network.safetensors")["flat.0.weight"])
    with pytest.raises(ConfigError, match="other seed"):
        main(small(tmp_path, town_dataroot, seed=1))


def test_stopped_between_epochs_it_learns_the_same(done, tmp_path, town_dataroot, monkeypatch):
    """A run that a signal stops after its first epoch, and goes on, has the weights of one that was not stopped."""
    options = small(tmp_path, town_dataroot, data=done)
    whole = small(tmp_path / "whole", town_dataroot, data=done)
    original = script.learn_epoch
    with script.Stop() as stop:
        monkeypatch.setattr(script, "learn_epoch", lambda *given: (setattr(stop, "asked", True), original(*given))[1])
        config = script.network_config(options, *scenes_of(options))
        script.learn_round(options, config, scenes_of(options)[1], 0, stop)
    assert not (tmp_path / "round_0").exists() and (tmp_path / "checkpoint.pt").exists()
    monkeypatch.setattr(script, "learn_epoch", original)
    main(options)
    main(whole)
    stopped, never = (load_file(path / "round_0" / "network.safetensors") for path in (tmp_path, tmp_path / "whole"))
    assert all(torch.equal(stopped[name], never[name]) for name in never)


def test_killed_before_its_network_is_written_a_round_goes_on(done, tmp_path, town_dataroot, monkeypatch):
    """With the losses of its last epoch."""
    options, whole = small(tmp_path / "killed", town_dataroot, data=done), small(tmp_path / "whole", town_dataroot, data=done)
    with monkeypatch.context() as patched:
        patched.setattr(script, "save_network", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(options)
    main(options)
    main(whole)
    killed, never = (load_network(path / "round_0") for path in (options.out, whole.out))
    assert killed[1].about == never[1].about and killed[1].about["losses"]
    assert all(torch.equal(a, b) for a, b in zip(killed[0].state_dict().values(), never[0].state_dict().values(), strict=True))


def scenes_of(options: Options):
    dataset = open_dataset(options.dataroot, None, options.scenes, size=(64, 112))
    return dataset, dataset.scene_names(options.scenes)[: -options.held_out]


def test_bad_input_is_one_clear_error(done, tmp_path, town_dataroot):
    for wrong in ({"rounds": 0}, {"share": 0.0}, {"cameras": ()}, {"augment": 5.0}):
        with pytest.raises(ConfigError):
            small(tmp_path, town_dataroot, **wrong)
    older = tmp_path / "older"
    older.mkdir()
    options = json.loads((done / "options.json").read_text())
    (older / "options.json").write_text(json.dumps({name: value for name, value in options.items() if name != "augment"}))
    with pytest.raises(ConfigError, match="other augment"):
        main(small(older, town_dataroot))
    with pytest.raises(ConfigError, match="the scenes have no CAM_ROOF"):
        main(small(tmp_path / "a", town_dataroot, cameras=("CAM_ROOF",)))
    with pytest.raises(ConfigError, match="holds no drives"):
        main(small(tmp_path / "b", town_dataroot, data=tmp_path))
    whole = (done / "data" / "round_0" / "town-val-0000.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 3 : len(whole) // 2] = bytes(len(whole) // 2 - len(whole) // 3)
    for content in (b"nothing", b"", whole[: len(whole) // 2], whole[:100], bytes(damaged)):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(DataError, match="remove the file"):
            load_samples([tmp_path / "broken.npz"], load_network(done / "round_0")[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"held_out": 2}, "--held-out 2 leaves none of the 2 scenes of val to train on: hold out fewer"),
        ({"dataroot": Path("nowhere")}, "nowhere .* is no folder"),
        ({"cameras": ("CAM_ROOF",)}, "the scenes have no CAM_ROOF"),
        ({"data": Path("nowhere")}, "holds no drives"),
        ({"start": Path("nowhere")}, "no end-to-end network is in nowhere"),
        ({"world": "splat", "data": "done"}, "were seen in the world oracle: add --world oracle"),
        ({"cameras": ("CAM_FRONT",), "data": "done"}, "were seen by .*: add --cameras CAM_FRONT_LEFT CAM_FRONT CAM_FRONT_RIGHT"),
        ({"cameras": script.FRONT[::-1], "data": "done"}, "were seen by CAM_FRONT_LEFT, CAM_FRONT, CAM_FRONT_RIGHT: add"),
        ({"data": "moved"}, "CAM_FRONT is mounted unlike where the drives of .* were seen from"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_command_that_cannot_run_is_not_remembered(wrong, message, done, tmp_path, town_dataroot):
    if wrong.get("data") == "moved":
        moved = tmp_path / "moved"
        for name in ("options.json", "round_0/config.json", "round_0/network.safetensors"):
            (moved / name).parent.mkdir(exist_ok=True)
            (moved / name).write_bytes((done / name).read_bytes())
        config = json.loads((moved / "round_0" / "config.json").read_text())
        config["calibration"][1][12] += 0.5
        (moved / "round_0" / "config.json").write_text(json.dumps(config))
    options = replace(small(tmp_path / "run", town_dataroot), **wrong)
    if isinstance(options.data, str):
        options = replace(options, data=tmp_path / "moved" if options.data == "moved" else done)
    with pytest.raises(DiST4DError, match=message):
        main(options)
    assert not list((tmp_path / "run").iterdir())


def test_it_learns_in_a_generated_world_too_and_a_folder_drives(tmp_path, town_dataroot):
    """The expert, who looks at nothing, drives alike; what is seen differs."""
    small_run = {"rounds": 1, "episodes": 1, "epochs": 1, "horizon": 1.0}
    drives = {}
    for world in ("oracle", "splat"):
        folder = main(small(tmp_path / world, town_dataroot, world=world, **small_run))
        with np.load(folder / "data" / "round_0" / "town-val-0000.npz") as file:
            drives[world] = {name: file[name] for name in ("rgb", "plan")}
        planner = make_planner(str(folder / "best"))
        assert isinstance(planner, EndToEndPlanner) and planner.trained.about["world"] == world
    assert np.array_equal(drives["oracle"]["plan"], drives["splat"]["plan"])
    assert not np.array_equal(drives["oracle"]["rgb"], drives["splat"]["rgb"])


def test_a_world_without_pictures_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="world='none' shows no pictures"):
        Options(world="none")
