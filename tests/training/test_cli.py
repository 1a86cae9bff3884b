"""``train`` on the command line: samples of several sizes, a run, a run from its weights, and bad input in one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dist4d_env.__main__ import main
from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.models.pretrained import load_model, save_model
from dist4d_env.training.checkpoint import initialise
from dist4d_env.training.cli import TrainCodec, check_resumed, write_options
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.options import DataOptions, codec_size
from dist4d_env.training.samples import SampleStore
from tests.models.made import small_preset

pytestmark = pytest.mark.medium


def test_a_run_and_a_run_from_its_weights(town_dataroot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, samples = tmp_path / "first", tmp_path / "second", str(tmp_path / "samples")
    common = ["--dataroot", str(town_dataroot), "--split", "val", "--val-split", "none", "--scenes", "1", "--workers", "1"]
    common += ["--samples", samples, "--steps", "1", "--batch", "1"]
    assert main(["train", "dist-s", "--out", str(first), "--sizes", "64x112", "32x56", *common]) == 0
    assert {path.name for path in Path(samples).iterdir()} == {"train", "train-32x56"}
    assert {path.name for path in first.iterdir()} == {"checkpoint.pt", "log.jsonl", "options.json", "tensorboard", "weights"}
    options = json.loads((first / "options.json").read_text())
    assert options["sizes"] == ["64x112", "32x56"] and options["model"] == "dist-s"

    assert main(["train", "dist-s", "--out", str(first), *common]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(["train", "dist-s", "--out", str(first), "--resume", *common]) == 2
    assert "was begun with sizes ['64x112', '32x56'], not []: resume it so" in capsys.readouterr().err
    assert main(["train", "dist-s", "--out", str(first), "--sizes", "64x112", "32x56", *common, "--steps", "2", "--resume"]) == 0
    assert [json.loads(line)["step"] for line in (first / "log.jsonl").read_text().splitlines()] == [1, 1, 2, 2]
    assert main(["train", "dist-s", "--out", str(second), "--init", str(first / "weights"), *common]) == 0
    numbers = [json.loads((run / "log.jsonl").read_text().splitlines()[-1])["validation"] for run in (first, second)]
    assert set(numbers[0]) == set(numbers[1]) and numbers[0] != numbers[1]

    events = EventAccumulator(str(first / "tensorboard")).Reload()
    assert {"training/loss", "training/waiting", "validation/composed"} <= set(events.Tags()["scalars"])
    assert events.Scalars("validation/composed")[-1].value == pytest.approx(numbers[0]["composed"])
    assert [(picture.width, picture.height) for picture in events.Images("pair")] == [(6 * 112, 2 * 3 * 64)] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dist-t"], "DiST-T needs a codec"),
        (["distil", "--codec", "tiny"], "distil needs a teacher"),
        (["dist-t", "--codec", "tiny", "--adversarial", "0.1"], "--adversarial is the weight of a critic of rollouts"),
        (["dist-t", "--codec", "tiny", "--layout-consistency", "0.1"], "--layout-consistency is the weight of a critic"),
        (["dist-t", "--codec", "tiny", "--emphasis", "-1"], "--emphasis is 0 or more, not -1.0"),
        (["dist-t", "--codec", "tiny", "--rollout-share", "2"], "a share of the steps, 0 to 1, not 2.0"),
        (["codec", "--sizes", "64"], "'64' is not of the form HEIGHTxWIDTH"),
        (["codec", "--seed", "-1"], "--seed -1: give 0 to "),
        (["codec", "--workers", "-1"], "--workers -1: give 0 or more"),
        (["codec", "--preset", "huge"], "'huge' is unknown"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, "--out", str(tmp_path / "run"), "--dataroot", str(tmp_path / "nowhere")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["codec", "dist-t", "distil", "dist-s", "signals"])
def test_a_recipe_shows_its_own_options_on_one_screen(
    recipe: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        main(["train", recipe, "--help"])
    text = capsys.readouterr().out
    shown = set(re.findall(r"^. (--[a-z][a-z-]+)", text, re.MULTILINE))
    lines = [line for line in text.splitlines() if re.search(r"\w", line)]  # without frames, which terminals draw differently
    assert {"--out", "--dataroot", "--steps"} < shown and len(lines) <= 40
    own = {"--adversarial": {"dist-t"}, "--teacher": {"distil"}, "--rollouts": {"dist-t", "distil"}}
    assert {option for option in own if option in shown} == {option for option, recipes in own.items() if recipe in recipes}


def test_no_steps_make_samples_only(town_dataroot: Path, tmp_path: Path) -> None:
    common = ["--dataroot", str(town_dataroot), "--split", "val", "--val-split", "none", "--scenes", "1", "--workers", "1"]
    assert main(["train", "codec", "--out", str(tmp_path / "run"), "--sizes", "32x56", "--steps", "0", *common]) == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["samples"]


def test_a_resumed_run_keeps_its_data_set_and_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However its folder is spelled."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    (tmp_path / "drives").mkdir()
    (tmp_path / "link").symlink_to("drives")
    out.mkdir()
    write_options(TrainCodec(out, data=DataOptions(dataroot=Path("drives"), scenes=4)))
    for same in (Path("drives"), Path("run/../drives"), tmp_path / "drives", tmp_path / "link"):
        check_resumed(TrainCodec(out, resume=True, data=DataOptions(dataroot=same, scenes=4)))
    for name, other in {
        "dataroot": tmp_path / "others", "version": "v1.0-mini", "split": "val", "scenes": 5, "val_split": "none",
        "val_dataroot": tmp_path / "others",
    }.items():  # fmt: skip
        data = DataOptions(**({"dataroot": Path("drives"), "scenes": 4} | {name: other}))
        with pytest.raises(ConfigError, match=f"was begun with {name} .*, not .*{other}: resume it so"):
            check_resumed(TrainCodec(out, resume=True, data=data))
    # The folder may come from the environment, at the beginning or later.
    monkeypatch.setenv("NUSCENES", str(tmp_path / "link"))
    check_resumed(TrainCodec(out, resume=True, data=DataOptions(scenes=4)))
    write_options(TrainCodec(out, data=DataOptions(scenes=4)))
    monkeypatch.setenv("NUSCENES", str(tmp_path / "others"))
    with pytest.raises(ConfigError, match=r"was begun with dataroot .*if the folder has only been moved, say so"):
        check_resumed(TrainCodec(out, resume=True, data=DataOptions(scenes=4)))
    check_resumed(TrainCodec(out, resume=True, data=DataOptions(dataroot=Path("drives"), scenes=4)))
    # Runs from before the paths were whole ones.
    options = json.loads((out / "options.json").read_text())
    (out / "options.json").write_text(json.dumps(options | {"dataroot": "drives"}))
    check_resumed(TrainCodec(out, resume=True, data=DataOptions(dataroot=tmp_path / "drives", scenes=4)))


def test_sizes_must_fit_the_codec() -> None:
    assert codec_size("424x800") == (424, 800)
    for wrong in ("64x113", "8x112", "64", "x64", "64x-8"):
        with pytest.raises(ConfigError):
            codec_size(wrong)


def test_training_starts_from_a_folder_of_weights(store: SampleStore, tmp_path: Path) -> None:
    weights = DiSTSRecipe(small_preset(), store, None, 1, seed=5).unet
    save_model(weights, tmp_path / "dist_s", torch.float16)
    recipe = DiSTSRecipe(small_preset(), store, None, 1, seed=6)
    initialise(recipe.models, tmp_path)
    for name, tensor in load_model(type(weights), tmp_path / "dist_s").state_dict().items():
        assert torch.equal(recipe.unet.state_dict()[name], tensor) and tensor.dtype == torch.float32
    with pytest.raises(WeightsError, match="holds none of codec to start from"):
        initialise(CodecRecipe(small_preset(), store, None, 1, 0).models, tmp_path)


def test_weights_of_another_preset_are_refused(store: SampleStore, tmp_path: Path) -> None:
    recipe = DiSTSRecipe(small_preset(), store, None, 1, seed=5)
    save_model(type(recipe.unet)(widths=(16, 24), blocks=1), tmp_path / "dist_s")
    with pytest.raises(WeightsError, match="does not fit the preset"):
        initialise(recipe.models, tmp_path)
