"""Which golden episodes there are: every world, action, kind of traffic and reward, edits, branches and vector environments.

They play in the first four scenes of the town's val split, within their first 14 seconds; a few more in real nuScenes data.
"""

from __future__ import annotations

from typing import Any

from benchmarks.golden.driver import Episode

VECTORS = ["ego", "route", "agents"]
IMAGES = ["cameras", "depth", "ego", "route"]
SCENES = [f"town-val-{index:04}" for index in range(4)]
CUSTOM = {
    "progress": 1.0,
    "collision": -3.0,
    "comfort": -0.5,
    "speed_limit": -0.1,
    "route_offset": -0.2,
    "time_to_collision": -1.0,
}

EDITS: dict[str, tuple[int, float, tuple[str, ...]]] = {
    "stop": (0, 5.0, ("stop: {target: nearest, at: 0.5, deceleration: 5.0}",)),
    "slow": (0, 0.5, ("slow: {target: lead, at: 0.5, speed: 0.7, deceleration: 2.2, hold: 1.5}",)),
    "cut-in": (1, 0.0, ("cut_in: {at: 0.5, duration: 1.3, lateral: -2.9, speed: 6.3, gap: 4.7, final_speed: 1.0}",)),
    "jaywalk": (0, 3.0, ("remove: {target: all pedestrian}", "jaywalk: {ahead: 32, lateral: -4.0, speed: 2.0, early: 0.3}")),
    "cross": (2, 2.0, ("remove: {target: all}", "cross: {ahead: 25, side: left, speed: 7, early: 0.3}")),
    "oncoming": (3, 1.0, ("remove: {target: all}", "oncoming: {meet: 2.5, speed: 8, lateral: 3.5, into: 0.5}")),
    "door": (1, 2.0, ("remove: {target: all}", "door: {ahead: 18, lateral: -2.6, before: 1.0}")),
    "insert": (
        1,
        3.0,
        (
            "insert: {ahead: 18, speed: 6}",
            "insert: {category: pedestrian, ahead: 12, lateral: 5, profile: [[0, 1.0], [2, 0.2]]}",
            "stop: {target: edit-0, at: 0.6, deceleration: 4.4}",
        ),
    ),
    "remove": (0, 4.0, ("remove: {target: nearest}",)),
}
"""Scene, start and edits by name."""


def scenario(name: str, **fields: Any) -> str:
    """YAML text of an edited scenario."""
    scene, start, edits = EDITS[name]
    more = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f"scene: {SCENES[scene]}\nstart: {start}\n{more}edits:\n" + "".join(f"  - {edit}\n" for edit in edits)


def at(scene: int, start: float) -> dict[str, Any]:
    return {"scene": SCENES[scene], "start": start}


def vectors(name: str, options: dict[str, Any] | None = None, steps: int = 12, **more: Any) -> Episode:
    """An episode without pictures. more: fields of ``Episode``, all others are keywords of the environment."""
    return episode(name, {"world": "none", "observation": VECTORS, "horizon": 5.0}, options, steps, more)


def imaged(name: str, options: dict[str, Any] | None = None, steps: int = 6, **more: Any) -> Episode:
    """An episode with pictures."""
    return episode(name, {"observation": IMAGES, "horizon": 3.0}, options, steps, more)


def episode(name: str, keywords: dict[str, Any], options: dict[str, Any] | None, steps: int, more: dict[str, Any]) -> Episode:
    fields = {key: more.pop(key) for key in list(more) if key in Episode.__dataclass_fields__}
    return Episode(name, {"scenes": SCENES, **keywords, **more}, options, steps=steps, **fields)


def without_pictures() -> list[Episode]:
    styles = ("gentle", "wild", "brake", "throttle", "left", "right", "route")
    return [
        *(vectors(f"none-controls-{style}", at(index % 4, index), style=style) for index, style in enumerate(styles)),
        *(
            vectors(f"none-{action}-{style}", at(index, 1.0), action=action, style=style)
            for action in ("trajectory", "discrete")
            for index, style in enumerate(("gentle", "wild", "route"))
        ),
        *(vectors(f"none-idm-{style}", at(index, 2.0), style=style, traffic="idm") for index, style in enumerate(styles[:4])),
        vectors("none-idm-trajectory", at(1, 0.0), action="trajectory", style="route", traffic="idm", steps=24, horizon=12.0),
        vectors("none-idm-discrete", at(3, 0.0), action="discrete", style="wild", traffic="idm"),
        vectors("none-long", at(0, 0.0), action="trajectory", style="route", steps=24, horizon=12.0),
        vectors("none-drawn", None, steps=24, horizon=2.0, seed=5),
        vectors("none-drawn-idm-wild", None, steps=24, horizon=2.0, seed=6, traffic="idm", style="wild"),
        vectors("none-dt-0.1", at(2, 1.0), steps=24, decision_dt=0.1, horizon=2.0),
        vectors("none-dt-0.1-idm", at(0, 1.0), steps=24, decision_dt=0.1, horizon=2.0, traffic="idm", style="route"),
        vectors("none-dt-0.3", at(3, 1.5), steps=12, decision_dt=0.3, horizon=3.0),
        vectors("none-dt-0.3-trajectory", at(1, 1.5), decision_dt=0.3, action="trajectory", style="route", horizon=3.0),
        vectors("none-bev", at(0, 6.0), steps=6, observation=["ego", "agents", "bev"]),
        vectors("none-bev-idm", at(2, 3.0), steps=6, observation=["route", "bev"], traffic="idm", style="right"),
        *(
            vectors(f"none-dice-{seed}-{traffic}", None, steps=40, horizon=4.0, seed=100 + seed, traffic=traffic, style=style)
            for seed, style in enumerate(("gentle", "route", "wild"))
            for traffic in ("replay", "idm")
        ),
        vectors("none-to-log-end", at(1, 11.0), steps=8, style="route", horizon=10.0),
    ]


def rewarded() -> list[Episode]:
    """Rewards and terminations."""
    rewards: dict[str, Any] = {"shaped": "shaped", "sparse": "sparse", "pdms": "pdms", "custom": CUSTOM}
    return [
        *(
            vectors(f"reward-{name}-{style}", at(index % 4, 2.0), reward=reward, style=style, steps=10, horizon=4.0)
            for index, (name, reward) in enumerate(rewards.items())
            for style in ("route", "wild")
        ),
        vectors("reward-pdms-idm", at(0, 0.0), reward="pdms", traffic="idm", style="throttle"),
        *(
            vectors("termination-" + ("-".join(causes) or "none"), at(index, 3.0), style=style, termination=causes)
            for index, (causes, style) in enumerate(
                (([], "left"), (["collision"], "throttle"), (["off_road"], "left"), (["wrong_way"], "left"))
            )
        ),
    ]


def edited() -> list[Episode]:
    quick: dict[str, Any] = {"steps": 10, "horizon": 5.0, "style": "route"}
    return [
        *(vectors(f"edit-{name}", scenario=scenario(name), **quick) for name in EDITS),
        *(vectors(f"edit-{name}-idm", scenario=scenario(name, traffic="idm"), **quick) for name in ("cut-in", "jaywalk")),
        vectors("edit-insert-throttle", scenario=scenario("insert"), steps=10, style="throttle", fixed=True),
        vectors("edit-moved-ego", scenario=scenario("remove", ego_offset=0.8, ego_yaw=-0.1, ego_speed=4.0, horizon=3.0), **quick),
        imaged("edit-insert-splat", scenario=scenario("insert"), weights="splat"),
        imaged("edit-stop-replay", scenario=scenario("stop"), world="replay", steps=4),
        imaged("edit-cut-in-oracle", scenario=scenario("cut-in"), world="oracle", size=[32, 56], steps=4),
        imaged("edit-insert-dist4d", scenario=scenario("insert"), steps=3),
    ]


def with_pictures() -> list[Episode]:
    return [
        imaged("replay-gentle", at(0, 2.0), world="replay"),
        imaged("replay-left-history", at(1, 4.0), world="replay", memory="history", style="left"),
        imaged("replay-idm-small", at(2, 3.0), world="replay", traffic="idm", size=[40, 72], style="brake"),
        imaged("replay-dt-0.1", at(3, 2.0), world="replay", decision_dt=0.1, horizon=1.0),
        imaged("replay-drawn", None, world="replay", steps=8, horizon=1.0, seed=3),
        imaged("oracle-gentle", at(0, 1.0), world="oracle", steps=3),
        imaged("oracle-idm-trajectory", at(3, 2.0), world="oracle", steps=3, traffic="idm", action="trajectory", size=[32, 56]),
        imaged("splat-gentle", at(0, 2.0), weights="splat"),
        imaged("splat-left-history", at(1, 4.0), weights="splat", memory="history", style="left", steps=6),
        imaged("splat-idm-pdms", at(2, 3.0), weights="splat", traffic="idm", reward="pdms", style="route"),
        imaged("splat-dt-0.3-trajectory", at(3, 2.0), weights="splat", decision_dt=0.3, action="trajectory", style="route"),
        imaged("splat-trust-floor", at(1, 3.0), weights="splat", trust_floor=0.6, style="right", termination=[], steps=6),
        imaged("splat-everything", at(0, 3.0), weights="splat", observation=[*IMAGES, "agents", "bev"], steps=3),
        imaged("dist4d-gentle", at(0, 2.0)),
        imaged("dist4d-left", at(1, 3.0), style="left"),
        imaged("dist4d-history", at(0, 4.0), memory="history", style="route"),
        imaged("dist4d-history-right", at(2, 3.0), memory="history", style="right", steps=4),
        imaged("dist4d-idm-trajectory", at(3, 2.0), traffic="idm", action="trajectory", style="route", steps=4),
        imaged("dist4d-dt-0.1-discrete", at(2, 2.0), decision_dt=0.1, action="discrete", steps=4),
        imaged("dist4d-dt-0.3", at(1, 1.5), decision_dt=0.3, steps=4),
        imaged("dist4d-depth-only", None, observation=["depth", "agents"], steps=3, seed=2),
        imaged("render-splat", at(0, 2.0), weights="splat", render_mode="rgb_array", render=True, steps=2),
        vectors("render-none", at(1, 2.0), render_mode="rgb_array", render=True, steps=2),
    ]


def branched() -> list[Episode]:
    """A snapshot in the middle, and three ways on."""
    return [
        vectors("branch-none", at(0, 1.0), branch=3, steps=8),
        vectors("branch-none-idm-pdms", at(2, 1.0), branch=3, steps=8, traffic="idm", reward="pdms", style="route"),
        vectors("branch-none-over-the-end", None, branch=2, steps=8, horizon=2.0, seed=9),
        vectors("branch-vector-3", envs=3, branch=4, steps=10, horizon=3.0, seed=8),
        vectors("branch-vector-3-idm", envs=3, branch=3, steps=8, horizon=3.0, seed=9, traffic="idm", style="route"),
        vectors("branch-edit-cut-in", scenario=scenario("cut-in"), branch=2, steps=6, style="route"),
        imaged("branch-replay", at(1, 2.0), world="replay", branch=1, steps=3),
        imaged("branch-splat-history", at(0, 4.0), weights="splat", memory="history", branch=2, steps=4),
        imaged("branch-dist4d", at(3, 3.0), branch=2, steps=4),
    ]


def together() -> list[Episode]:
    """Vector environments."""
    return [
        vectors("vector-1", envs=1, steps=16, horizon=3.0),
        vectors("vector-3", envs=3, steps=16, horizon=3.0, seed=3, style="route"),
        vectors("vector-3-idm-bev", envs=3, steps=6, traffic="idm", observation=["ego", "bev"], horizon=2.0),
        vectors("vector-3-edits", envs=3, steps=10, scenario=scenario("insert"), horizon=3.0, style="throttle"),
        vectors("vector-3-edits-idm", envs=3, steps=10, scenario=scenario("cut-in", traffic="idm"), horizon=3.0, style="route"),
        vectors("vector-16", envs=16, steps=20, horizon=3.0, seed=7),
        vectors("vector-16-wild", envs=16, steps=30, horizon=4.0, seed=11, style="wild"),
        vectors("vector-16-idm", envs=16, steps=16, horizon=3.0, traffic="idm", style="route", reward=CUSTOM),
        vectors("vector-16-trajectory-pdms", envs=16, steps=10, horizon=3.0, action="trajectory", style="route", reward="pdms"),
        vectors("vector-16-discrete-sparse", envs=16, steps=12, horizon=3.0, action="discrete", style="wild", reward="sparse"),
        vectors("vector-16-dt-0.1", envs=16, steps=24, horizon=1.0, decision_dt=0.1, seed=2),
        vectors("vector-16-mask", envs=16, steps=10, horizon=3.0, mask=4, seed=4),
        vectors("vector-3-no-copy", envs=3, steps=8, horizon=2.0, copy=False, style="wild"),
        imaged("vector-3-splat", envs=3, steps=6, weights="splat", horizon=1.5),
        imaged("vector-3-replay-history", envs=3, steps=4, world="replay", memory="history", horizon=1.5, style="left"),
        imaged("vector-3-dist4d", envs=3, steps=4, horizon=1.0, seed=1),
        imaged("vector-1-dist4d-history", envs=1, steps=3, memory="history", style="right", render_mode="rgb_array", render=True),
    ]


def many() -> list[Episode]:
    """Many episodes from drawn starts, in which thresholds are met that a few episodes miss."""
    more: dict[str, Any] = {"envs": 48, "steps": 40, "horizon": 8.0}
    return [
        *(
            vectors(f"many-{traffic}-{style}", seed=1000 * seed, traffic=traffic, style=style, termination=causes, **more)
            for traffic in ("replay", "idm")
            for seed, (style, causes) in enumerate((("route", ["collision"]), ("wild", ["off_road", "wrong_way"]), ("brake", [])))
        ),
        vectors(
            "many-trajectory", seed=5, style="wild", action="trajectory", traffic="idm", termination=[], reward=CUSTOM, **more
        ),
        imaged("many-splat", envs=4, steps=14, seed=1, weights="splat", style="route", horizon=5.0),
        imaged(
            "many-splat-history-wild", envs=4, steps=10, seed=2, weights="splat", memory="history", style="wild", termination=[]
        ),
        imaged("many-replay", envs=4, steps=10, seed=3, world="replay", style="gentle", termination=[], horizon=5.0),
        imaged("many-dist4d", envs=2, steps=8, seed=4, style="route", traffic="idm", horizon=4.0),
        imaged("many-dist4d-history", envs=2, steps=8, seed=5, memory="history", termination=[], horizon=4.0),
    ]


def refused() -> list[Episode]:
    """Episodes that are refused, with their messages."""
    wrong = "scene: {}\nstart: {}\nedits:\n  - stop: {{target: {}, at: 0.5}}\n"
    return [
        vectors("error-keyword", decision_time=0.5, fails=True),
        vectors("error-reward", reward={"progres": 1.0}, fails=True),
        vectors("error-cameras-in-none", observation=IMAGES, fails=True),
        vectors("error-weights", world="dist4d", weights="no-such-weights", fails=True),
        vectors("error-scene", {"scene": "town-val-none", "start": 0.0}, fails=True),
        vectors("error-start", at(0, 500.0), fails=True),
        vectors("error-option", {"scenes": "val"}, fails=True),
        vectors("error-edit-target", scenario=wrong.format(SCENES[0], 1.0, "edit-7"), fails=True),
        vectors("error-edit-field", scenario=wrong.format(SCENES[0], "soon", "lead"), fails=True),
        vectors("error-vector-start", at(0, 500.0), envs=3, fails=True),
    ]


def recorded(dataroot: str) -> list[Episode]:
    """In scenes of real nuScenes v1.0-mini data, of which tables and maps suffice."""
    scenes = ["scene-0061", "scene-0103", "scene-0655", "scene-0796", "scene-1094"]
    real: dict[str, Any] = {"dataroot": dataroot, "scenes": scenes}
    braking = "scene: scene-0103\nstart: 2.0\nedits:\n  - stop: {target: lead, at: 0.5}\n  - insert: {ahead: 25, lateral: 3.5}\n"
    return [
        *(
            vectors(
                f"real-{action}-{name[-4:]}", {"scene": name, "start": 1.0}, action=action, traffic=traffic, style=style, **real
            )
            for name, action, traffic, style in zip(
                scenes,
                ("controls", "trajectory", "discrete", "trajectory", "controls"),
                ("replay", "idm", "idm", "replay", "idm"),
                ("route", "route", "wild", "route", "throttle"),
                strict=True,
            )
        ),
        vectors("real-dice", None, steps=30, horizon=3.0, style="wild", seed=21, observation=["ego", "bev", "agents"], **real),
        vectors("real-edit-idm", scenario=braking, style="route", traffic="idm", reward="pdms", branch=3, steps=9, **real),
        vectors("real-many", envs=48, steps=30, horizon=6.0, style="wild", seed=24, termination=["collision"], **real),
        vectors("real-many-idm", envs=48, steps=30, horizon=6.0, style="route", seed=25, traffic="idm", termination=[], **real),
        vectors("real-vector-16", envs=16, steps=20, horizon=4.0, style="route", seed=22, **real),
        vectors("real-vector-16-idm", envs=16, steps=12, horizon=3.0, style="gentle", seed=23, traffic="idm", **real),
    ]


def all_episodes(nuscenes: str | None = None) -> list[Episode]:
    """nuscenes: a data root of real data, for the episodes in it."""
    kinds = (without_pictures, rewarded, edited, with_pictures, branched, together, many, refused)
    return [episode for kind in kinds for episode in kind()] + (recorded(nuscenes) if nuscenes else [])
