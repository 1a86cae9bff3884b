"""A drive as files: an episode log to score, a scenario, every decision and picture to drive again, and a video of doing so."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env import __version__
from dist4d_env.envs.rendering import render_dashboard
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.episode_log import BROKEN, EpisodeLog, save_episode, scenario_record, shown_error
from dist4d_env.evaluation.runner import episode_log, step_of
from dist4d_env.evaluation.video import VideoWriter
from dist4d_env.play.session import TO_THE_END, Moment, Picture, Session, Settings, Shown
from dist4d_env.play.wheel import HAND, Decision
from dist4d_env.play.worlds import Look, Worlds
from dist4d_env.registry import DATASETS, TRAFFIC, WORLDS, Registry
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.files import replacing_folder, write_text
from dist4d_env.scenes.scenario import Scenario, read_scenario, write_scenario
from dist4d_env.scenes.scene import TICK

FORMAT = 1
DRIVE, SCENARIO, VIDEO, EPISODES = "drive.json", "scenario.yaml", "drive.mp4", "episodes"
STOPPED = "horizon"
"""The outcome of a drive that was saved while it went on: it was meant to last until then."""


@dataclass(frozen=True)
class Tick:
    """One tick of a recorded drive. decision: what led to it, None at the start; state: digest of ego and agents; inserted: how
    many of the scenario's edits were put in at it; shown: its picture."""

    state: str
    decision: Decision | None = None
    inserted: int = 0
    shown: Shown | None = None


@dataclass(frozen=True)
class Recording:
    """A drive to drive again. weights, device: of the generated world; scenario: with everything that was inserted."""

    settings: Settings
    weights: str
    device: str
    scenario: Scenario
    ticks: tuple[Tick, ...]

    @classmethod
    def of(cls, session: Session) -> Recording:
        """What a session has driven up to its present instant."""
        path = session.path[: session.cursor + 1]
        ticks = [Tick(moment.digest, moment.decision, len(moment.inserted), moment.shown) for moment in path]
        return cls(session.settings, session.worlds.weights, session.worlds.device, _scenario(session), tuple(ticks))

    def write(self, folder: Path) -> None:
        """Writes the drive and its scenario."""
        write_scenario(folder / SCENARIO, self.scenario)
        head = {"format": FORMAT, "dist4d_env": __version__, "settings": asdict(self.settings)}
        head |= {"weights": self.weights, "device": self.device}
        lines = ",\n".join(json.dumps(_tick_record(tick), separators=(",", ":")) for tick in self.ticks)
        write_text(folder / DRIVE, json.dumps(head)[:-1] + f',\n"ticks": [\n{lines}\n]}}\n')

    @classmethod
    def read(cls, folder: Path, allow: Collection[Any] = ()) -> Recording:
        """allow: each "module:Class" that its files may name as world, traffic or reader of the data set.

        Raises ConfigError or DataError naming the file.
        """
        scenario, path = read_scenario(folder / SCENARIO, allow), folder / DRIVE
        try:
            text = json.loads(path.read_text(encoding="utf-8"))
            if text["format"] != FORMAT:
                raise DataError(f"{path}: a drive of format {text['format']!r:.40}, not {FORMAT}: drive it again")
            given = {**text["settings"], "look": Look(**text["settings"]["look"])}
            settings = Settings(**{**given, "scenes": tuple(given["scenes"]), "size": tuple(given["size"])})
            ticks = tuple(_tick(record) for record in text["ticks"])
            if sum(tick.inserted for tick in ticks) > len(scenario.edits) or not ticks:
                raise ValueError("its ticks and its scenario do not belong together")
            recording = cls(settings, text["weights"], text["device"], scenario, ticks)
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file: name a folder that `play` has saved") from error
        except (*BROKEN, OSError, AttributeError) as error:
            raise DataError(f"{path}: not a whole drive ({shown_error(error)})") from error
        for registry, name in recording.names:
            try:
                registry.check_named_by_file(name, allow)
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from error
        return recording

    @property
    def names(self) -> list[tuple[Registry, Any]]:
        """The names that it is driven again by, and what they are names of."""
        worlds = [self.settings.look.world, *(tick.shown.look.world for tick in self.ticks if tick.shown is not None)]
        traffic = [self.settings.traffic, self.scenario.traffic]
        return [(WORLDS, name) for name in worlds] + [(TRAFFIC, name) for name in traffic] + [(DATASETS, self.settings.dataset)]

    def session(self, worlds: Worlds | None = None) -> Session:
        """A session to drive it again in."""
        return Session(self.settings, worlds or Worlds(self.weights, self.device))


def drive_again(
    recording: Recording, session: Session, watch: Callable[[Moment, Picture | None], None] = lambda moment, picture: None
) -> None:
    """Drives a recording again and compares every instant and every picture bit for bit. watch: called with each.

    Raises DataError at the first that differs: other code, other weights, or for pictures another kind of machine.
    """
    inserted = sum(tick.inserted for tick in recording.ticks)
    edits = list(recording.scenario.edits)
    later = edits[len(edits) - inserted :]
    # To the end, as it was driven: the recorded horizon is where it was saved, and what is over takes no insertion.
    before = replace(recording.scenario, edits=tuple(edits[: len(edits) - inserted]), horizon=TO_THE_END)
    for number, tick in enumerate(recording.ticks):
        if tick.decision is None:
            session.begin(recording.scenario.scene, scenario=before)
        else:
            session.decide(tick.decision)
        for _ in range(tick.inserted):
            edit = later.pop(0)
            if not isinstance(edit, Insert):
                raise DataError(f"{edit.kind} was not put in while driving: the scenario has been changed")
            session.put(edit)
        if session.now.digest != tick.state:
            raise DataError(f"at tick {number} the episode differs from the recorded one: it was driven by other code or data")
        picture = None
        if tick.shown is not None:
            session.show(tick.shown.look)
            picture = session.paint()
            if picture.drawn.shown != tick.shown:
                raise DataError(f"at tick {number} the picture differs from the recorded one: other weights, or another machine")
        watch(session.now, picture)


def save(session: Session, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Saves what has been driven up to the present instant in a new folder below ``folder``, which is returned; then drives it
    again from the files, which makes the video and shows that it can be. progress: how many ticks of how many that has done.

    Raises ConfigError where too little has been driven, or the folder cannot be written to.
    """
    if session.cursor < 2:
        raise ConfigError("there is nothing to save yet: drive first")
    recording = Recording.of(session)
    try:
        with _new_folder(folder, session.scenario.scene) as place, replacing_folder(place) as fresh:
            recording.write(fresh)
            save_episode(log_of(session), fresh / EPISODES, "drive")
        film(place, session.worlds, progress, [name for _, name in recording.names])
    except OSError as error:
        raise ConfigError(f"{folder}: drives cannot be saved there ({error.strerror or error}): see to it, then save") from error
    return place


def film(
    folder: Path,
    worlds: Worlds | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    allow: Collection[Any] = (),
) -> None:
    """Drives a saved drive again and writes its video; allow: as in ``Recording.read``. Raises DataError where it differs from
    the recorded one."""
    recording = Recording.read(folder, allow)
    session = recording.session(worlds)
    shown: list[Picture] = []
    try:
        with VideoWriter(folder / VIDEO, 1 / TICK) as video:

            def watch(moment: Moment, picture: Picture | None) -> None:
                progress(session.cursor, len(recording.ticks))
                if picture is not None:
                    shown[:] = [picture]
                if shown:
                    video.add(dashboard(session, shown[0]))

            drive_again(recording, session, watch)
    finally:
        session.close()


def dashboard(session: Session, picture: Picture) -> np.ndarray:
    """The dashboard of the present instant with the latest picture."""
    view, info = session.view(), {**session.now.info, "world": _world_record(picture.drawn.shown)}
    return render_dashboard(picture.drawn.frame.rgbd, info, view.state, session.scene, view.plan)


def log_of(session: Session) -> EpisodeLog:
    """The log of the path up to the present instant. Plans are kept where a planner drove all the way."""
    path = session.path[: session.cursor + 1]
    steps, latest = [], None
    for moment in path:
        latest = moment.shown or latest
        info = moment.info if latest is None else {**moment.info, "world": _world_record(latest)}
        steps.append(step_of(info, moment.reward, 0.0))
    decisions = [moment.decision for moment in path[1:] if moment.decision is not None]
    drivers = list(dict.fromkeys(decision.by for decision in decisions)) or [HAND]
    planned = all(decision.kind == "trajectory" for decision in decisions)
    issued = [(tick, decision.action) for tick, decision in enumerate(decisions)] if planned else []
    outcome = path[-1].ended_by or STOPPED
    log = episode_log(session.driving, "+".join(drivers), session.settings.seed, steps, issued, outcome)
    look = next((moment.shown.look for moment in path if moment.shown is not None), session.look)
    shows = {"world": look.world, "weights": session.worlds.weights, "memory": look.memory}
    shows["action"] = "trajectory" if planned else "controls"
    return replace(log, scenario=scenario_record(_scenario(session)), settings={**log.settings, **shows})


def _scenario(session: Session) -> Scenario:
    """The scenario, which was meant to last as long as has been driven where nothing else has ended it."""
    if session.now.ended_by not in (None, STOPPED):
        return session.scenario
    return replace(session.scenario, horizon=round(session.cursor * TICK, 1))


@contextmanager
def _new_folder(folder: Path, name: str) -> Iterator[Path]:
    """A new, empty folder, also where others save at the same time, which goes away if something goes wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        place = folder / f"{name}-{number:03d}"
        with suppress(FileExistsError):
            place.mkdir()
            break
        number += 1
    try:
        yield place
    except BaseException:
        with suppress(OSError):
            place.rmdir()
        raise


def _world_record(shown: Shown) -> dict[str, Any]:
    return {"source": list(shown.source), "deviation_m": shown.deviation_m, "trust": shown.trust, "pixels": 0}


def _tick_record(tick: Tick) -> dict[str, Any]:
    record: dict[str, Any] = {"state": tick.state}
    if tick.decision is not None:
        record |= {"by": tick.decision.by, "kind": tick.decision.kind, "action": tick.decision.action.tolist()}
    if tick.inserted:
        record["inserted"] = tick.inserted
    if tick.shown is not None:
        record["shown"] = {**asdict(tick.shown), "source": list(tick.shown.source)}
    return record


def _tick(record: Mapping[str, Any]) -> Tick:
    """Raises KeyError, TypeError or ValueError for what is none."""
    decision = shown = None
    if "kind" in record:
        action = np.array(record["action"], float)
        if record["kind"] not in ("controls", "trajectory") or not np.isfinite(action).all():
            raise ValueError(f"a decision of kind {record['kind']!r:.40}")
        decision = Decision(record["kind"], action, str(record["by"]))
    if "shown" in record:
        given = record["shown"]
        shown = Shown(**{**given, "look": Look(**given["look"]), "source": tuple(given["source"])})
    return Tick(str(record["state"]), decision, int(record.get("inserted", 0)), shown)
