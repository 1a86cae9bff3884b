"""N episodes in one environment: each as it is alone, all of them in one call of the world."""

from __future__ import annotations

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from dist4d_env.envs import episodes as episodes_module
from dist4d_env.errors import ActionError, ConfigError
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario

from .worlds import EVERY_WORLD, assert_same, info_of

COUNT = 3


@pytest.fixture
def make_together(town_dataroot):
    made = []

    def make(count=COUNT, world="none", **keywords):
        groups = ("ego", "agents") if world == "none" else ("cameras", "depth", "ego")
        settings = {"dataroot": str(town_dataroot), "horizon": 1.0, "observation": groups, **keywords}
        made.append(gym.make_vec("DiST4D-nuScenes-v0", count, vectorization_mode="vector_entry_point", world=world, **settings))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


def row_of(batch, index):
    return {key: value[index] for key, value in batch.items()}


def assert_plays_as_alone(together, singles, random, decisions, actions=None):
    """Every member's observations, rewards, ends and infos, the final metrics included; returns what ended episodes."""
    causes, over = [], [False] * len(singles)
    for _ in range(decisions):
        if actions is None:
            batch = np.array([[0.4, random.uniform(-0.4, 0.4)] for _ in singles], np.float32)
        else:
            batch = np.stack([actions() for _ in singles])
        seen, rewards, terminated, truncated, infos = together.step(batch)
        for index, alone in enumerate(singles):
            if over[index]:
                (observation, info), reward, ends = alone.reset(), 0.0, [False, False]
            else:
                observation, reward, *ends, info = alone.step(batch[index])
            assert_same(row_of(seen, index), observation)
            assert_same(info_of(infos, index), info)
            assert rewards[index] == reward and [terminated[index], truncated[index]] == ends
            over[index] = any(ends)
            causes += [info["ended_by"]] if over[index] else []
    return causes


@pytest.mark.parametrize(
    "settings",
    [
        {"observation": ("ego", "route", "agents", "bev")},
        {"traffic": "idm"},
        {"traffic": "lanes"},
        {"reward": "pdms"},
        {"reward": "sparse", "termination": ()},
        {"decision_dt": 0.2, "render_mode": "rgb_array"},
        {"memory": "history", "trust_floor": 0.5, "termination": ("off_road",), "horizon": 3.0},
    ],
    ids=lambda settings: "-".join(map(str, settings)),
)
def test_infos_rewards_and_ends_are_those_of_each_alone(make_together, make_env, settings):
    settings = {"observation": ("ego", "route", "agents"), "horizon": 2.0, **settings}
    together, singles = make_together(4, **settings), [make_env(**settings) for _ in range(4)]
    observations, infos = together.reset(seed=3)
    for index, alone in enumerate(singles):
        observation, info = alone.reset(seed=3 + index)
        assert_same(row_of(observations, index), observation)
        assert_same(info_of(infos, index), info)
    causes = assert_plays_as_alone(together, singles, np.random.default_rng(1), 14)
    assert len(causes) >= 4, "episodes end and begin anew"


@pytest.mark.parametrize("action", ["trajectory", "discrete"])
def test_actions_of_every_kind(make_together, make_env, action):
    settings = {"action": action, "observation": ("ego", "agents"), "horizon": 2.0, "termination": ()}
    together, singles = make_together(3, **settings), [make_env(**settings) for _ in range(3)]
    together.reset(seed=8)
    for index, alone in enumerate(singles):
        alone.reset(seed=8 + index)
    random = np.random.default_rng(2)

    def act():
        if action == "discrete":
            return np.int64(random.integers(0, 42))
        x = np.cumsum(random.uniform(1.0, 4.0, 8))
        return np.stack([x, 0.05 * x, np.full(8, 0.05)], 1).astype(np.float32)

    assert assert_plays_as_alone(together, singles, random, 6, act) == ["horizon"] * 3


def test_scenarios_with_traffic_of_their_own_beside_others(make_together, make_env):
    """Some begin again in reactive traffic while the others go on with the log."""
    settings = {"observation": ("ego", "agents"), "horizon": 4.0, "termination": ()}
    together, singles = make_together(3, **settings), [make_env(**settings) for _ in range(3)]
    together.reset(seed=0)
    for index, alone in enumerate(singles):
        alone.reset(seed=index)
    scenario = Scenario(singles[0].unwrapped.scene_names[0], 0.5, horizon=2.5, traffic="idm", ego_speed=2.0)
    observations, infos = together.reset(options={"scenario": scenario, "reset_mask": np.array([False, True, False])})
    observation, info = singles[1].reset(options={"scenario": scenario})
    assert_same(row_of(observations, 1), observation)
    assert_same(info_of(infos, 1), info)
    assert assert_plays_as_alone(together, singles, np.random.default_rng(4), 12).count("horizon") >= 3


def test_rows_can_be_restored_and_go_on(make_together, make_env):
    """A snapshot of one member is put into another and into an environment alone: all three go on alike."""
    settings = {"observation": ("ego", "agents"), "horizon": 4.0, "traffic": "idm"}
    together, alone = make_together(3, **settings), make_env(**settings)
    together.reset(seed=0)
    action = np.array([0.3, 0.05], np.float32)
    together.step(np.stack([action] * 3))
    kept = together.envs[0].snapshot()
    alone.reset(seed=9)
    alone.unwrapped.restore(kept)
    together.step(np.stack([action] * 3))
    together.envs[2].restore(kept)
    seen, rewards, *_, infos = together.step(np.stack([action] * 3))
    observation, reward, *_, info = alone.step(action)
    assert_same(row_of(seen, 2), observation)
    assert_same(info_of(infos, 2), info)
    assert rewards[2] == reward and infos["time"][0] == pytest.approx(info["time"] + 0.5)
    assert_same(together.envs[2].episode.state.ego, alone.unwrapped.episode.state.ego)


def test_scenes_out_of_use_are_let_go(make_together, make_env, monkeypatch):
    """Two environments, through scenes with more and fewer agents, keep those they are in and enter."""
    monkeypatch.setattr(episodes_module, "SPARE_SCENES", 0)
    settings = {"observation": ("ego", "agents"), "horizon": 30.0, "termination": ()}
    together, singles = make_together(2, **settings), [make_env(**settings), make_env(**settings)]
    together.reset(seed=0)
    for index, alone in enumerate(singles):
        alone.reset(seed=index)
    cones = tuple(Insert("traffic_cone", ahead=12.0 + 3 * place, lateral=-0.5) for place in range(3))
    for turn in range(8):
        name, traffic = singles[0].unwrapped.scene_names[turn % 2], ("replay", "idm", "lanes")[turn % 3]
        edits = cones[: turn % 4]
        options = {"scenario": Scenario(name, 0.5, traffic=traffic, edits=edits)}
        together.reset(options={**options, "reset_mask": np.array([turn % 3 != 1, turn % 3 == 1])})
        singles[int(turn % 3 == 1)].reset(options=options)
        assert_plays_as_alone(together, singles, np.random.default_rng(5), 1)
        together.reset(seed=turn, options={"reset_mask": np.array([True, False])})
        singles[0].reset(seed=turn)
        assert_plays_as_alone(together, singles, np.random.default_rng(5), 1)
        assert len(together.unwrapped._episodes.simulator.scenes) <= 4


def test_real_scenes(nuscenes_real):
    """Crossings, no speed limits, more agents than an observation shows."""
    settings = {"dataroot": str(nuscenes_real), "scenes": "all", "world": "none", "observation": ("ego", "route", "agents")}
    together = gym.make_vec("DiST4D-nuScenes-v0", 3, vectorization_mode="vector_entry_point", **settings)
    singles = [gym.make("DiST4D-nuScenes-v0", **settings) for _ in range(3)]
    together.reset(seed=0)
    for index, alone in enumerate(singles):
        alone.reset(seed=index)
    assert assert_plays_as_alone(together, singles, np.random.default_rng(0), 8)


def test_observations_are_copies_unless_asked_otherwise(make_together):
    copied, kept = make_together(), make_together(copy=False)
    for together, same in ((copied, False), (kept, True)):
        first, _ = together.reset(seed=0)
        before = first["ego"].copy()
        second, *_ = together.step(np.full((COUNT, 2), 0.3, np.float32))
        assert (second["ego"] is first["ego"]) == same
        assert np.array_equal(first["ego"], before) != same


@EVERY_WORLD
def test_each_row_plays_as_it_does_alone(make_together, make_env, settings):
    """Through the end of the episodes and into the next ones."""
    together = make_together(2, **settings)
    observations, infos = together.reset(seed=5)
    random = np.random.default_rng(0)
    actions = random.uniform(-0.3, 0.3, (4, 2, 2)).astype(np.float32)
    outcomes = [together.step(action) for action in actions]
    for index in range(2):
        groups = ("ego", "agents") if settings["world"] == "none" else ("cameras", "depth", "ego")
        alone = make_env(**settings, observation=groups, horizon=1.0)
        observation, info = alone.reset(seed=5 + index)
        assert_same(row_of(observations, index), observation)
        assert infos["scene"][index] == info["scene"]
        over = False
        for step, (seen, rewards, terminated, truncated, infos_now) in enumerate(outcomes):
            if over:
                (observation, info), reward, ends = alone.reset(), 0.0, (False, False)
            else:
                observation, reward, *ends, info = alone.step(actions[step, index])
            assert_same(row_of(seen, index), observation)
            assert rewards[index] == reward and (terminated[index], truncated[index]) == tuple(ends)
            assert infos_now["time"][index] == info["time"]
            assert infos_now["world"]["source"][index] == info["world"]["source"]
            over = any(ends)
        assert any(outcome[3][index] or outcome[2][index] for outcome in outcomes)


def test_the_world_is_asked_once_for_all(make_together):
    together = make_together()
    world = together.envs[0].open_world()
    calls = []
    original = world.step
    world.step = lambda states, scenes: (calls.append(len(states)), original(states, scenes))[1]
    together.reset(seed=0)
    for _ in range(4):
        together.step(np.zeros((COUNT, 2), np.float32))
    assert calls == [COUNT] * 5


@pytest.mark.parametrize("action", ["controls", "trajectory", "discrete"])
def test_spaces_and_declarations(make_together, action):
    together = make_together(action=action, observation=("ego", "route", "agents", "bev"))
    observations, _ = together.reset(seed=0)
    assert observations in together.observation_space
    together.action_space.seed(0)
    actions = together.action_space.sample()
    observations, rewards, terminated, truncated, infos = together.step(actions)
    assert observations in together.observation_space
    assert (rewards.shape, rewards.dtype, terminated.dtype, truncated.dtype) == ((COUNT,), np.float64, np.bool_, np.bool_)
    assert together.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert infos["scene"].shape == (COUNT,) and infos["_scene"].all()


def test_what_is_true_reaches_a_world_elsewhere(make_together):
    """World "none" looks at nothing, so nothing is put together; a world in another process gets plain values."""
    together = make_together()
    world, given = together.envs[0].open_world(), []
    original = world.step
    world.step = lambda states, scenes: (given.append(scenes), original(states, scenes))[1]
    together.reset(seed=0)
    received = pickle.loads(pickle.dumps(given[0]))
    assert type(received) is list and len(received) == COUNT
    for env, truth in zip(together.envs, received, strict=True):
        state = env.episode.state
        assert truth.time == state.time and truth.global_from_ego[0, 3] == state.ego.x
        assert np.array_equal(truth.boxes.position, state.boxes.position)


def test_is_what_make_vec_makes_by_itself(town_dataroot):
    together = gym.make_vec("DiST4D-nuScenes-v0", 2, dataroot=str(town_dataroot), world="none", observation=("ego",))
    assert type(together.unwrapped).__name__ == "DiST4DVectorEnv"
    together.close()


@pytest.mark.parametrize("context", ["sync", "fork", "spawn"])
@pytest.mark.medium
def test_gymnasiums_own_vectorisation_plays_the_same(make_together, town_dataroot, context):
    settings = {"dataroot": str(town_dataroot), "world": "none", "observation": ("ego", "agents"), "horizon": 1.0}

    def make():
        import dist4d_env  # noqa: F401  (registers in the worker)

        return gym.make("DiST4D-nuScenes-v0", **settings)

    makers = [make, make]
    apart = SyncVectorEnv(makers) if context == "sync" else AsyncVectorEnv(makers, context=context)
    together = make_together(2)
    action = np.array([[0.3, 0.0], [0.1, 0.1]], np.float32)
    try:
        assert_same(*(envs.reset(seed=2)[0] for envs in (together, apart)))
        for _ in range(4):
            (seen, *outcome, infos), (others, *theirs, told) = together.step(action), apart.step(action)
            assert_same(seen, others)
            assert_same(outcome, theirs)
            assert_same(infos["metrics"]["route_progress"], told["metrics"]["route_progress"])
    finally:
        apart.close()


def test_render_shows_every_row_of(make_together):
    together = make_together(2, render_mode="rgb_array")
    together.reset(seed=0)
    first, second = together.render()
    assert first.shape == second.shape and first.dtype == np.uint8


def test_bad_input(make_together, town_dataroot):
    with pytest.raises(ConfigError, match="num_envs=0"):
        make_together(0)
    with pytest.raises(ConfigError, match=r"human.*rgb_array"):
        make_together(render_mode="human")
    together = make_together()
    with pytest.raises(ResetNeeded):
        together.step(np.zeros((COUNT, 2), np.float32))
    with pytest.raises(ConfigError, match="2 seeds for 3"):
        together.reset(seed=[1, 2])
    together.reset(seed=[1, 2, 3])
    with pytest.raises(ActionError, match="3 environments"):
        together.step(np.zeros((2, 2), np.float32))
    with pytest.raises(ActionError, match="shape"):
        together.step([[0.0, 0.0], [0.0], [0.0, 0.0]])
    before = [env.episode.state.ego for env in together.envs]
    with pytest.raises(ActionError):
        together.step(np.array([[0, 0], [0, 0], [np.nan, 0]], np.float32))
    assert [env.episode.state.ego for env in together.envs] == before


def test_rows_draw_the_starts_of_their_episodes(make_together):
    """Where options are not given: at the first reset and whenever an episode begins by itself."""
    together = make_together(2, horizon=1.0, termination=())
    row, drawn = together.unwrapped.envs[1], []

    def starts():
        drawn.append(Scenario(row.scene_names[0], 0.5, ego_offset=0.1 * len(drawn)))
        return {"scenario": drawn[-1]}

    row.starts = starts
    together.reset(seed=0)
    for count in (1, 2):
        assert row.episode.scenario == drawn[-1] and len(drawn) == count
        for _ in range(3):  # two decisions, and the one that begins anew
            together.step(np.zeros((2, 2), np.float32))
    together.reset(options={"scene": row.scene_names[1], "start": 0.0})
    assert row.episode.scenario == Scenario(row.scene_names[1], 0.0) and len(drawn) == 3
