"""What of the splat stands whatever the network draws: agents' colours, and depth where the network is not sure."""

from __future__ import annotations

import math

import pytest
import torch

from dist4d_env.models.conditions import age_code
from dist4d_env.models.depth_code import decode_depth, encode_depth
from dist4d_env.models.inputs import ViewInputs
from dist4d_env.models.pipelines import keep_agents, protect_depth

CASES = [  # valid, confidence, share, the splat's metres, the network's, what stands
    (1, 0.0, 0.1, 10.0, 30.0, 10.0),  # its colour stays the splat's
    (1, 0.0, 0.9, 10.0, 30.0, 30.0),  # drawn anew
    (1, 0.9, 0.9, 10.0, 12.0, 10.0),  # confirmed, and only corrected
    (1, 0.9, 0.9, 10.0, 30.0, 30.0),  # confirmed, but something else is there
    (0, 0.0, 0.1, 10.0, 30.0, 30.0),  # a hole
]


def test_each_case() -> None:
    valid, confidence, share, base, network, stands = (
        torch.tensor(column, dtype=torch.float32) for column in zip(*CASES, strict=True)
    )

    def image(metres: torch.Tensor) -> torch.Tensor:  # one row of pixels, (1, 4, 1, N)
        return torch.cat([torch.zeros(1, 3, 1, len(metres)), encode_depth(metres, "log")[None, None, None]], 1)

    masks = torch.zeros(1, 4, 1, len(CASES))
    masks[0, 0, 0], masks[0, 2, 0] = valid, confidence
    rgbd = image(network)
    rgbd[:, :3] = 0.5
    views = ViewInputs(image(base), torch.zeros(1, 3, 1, len(CASES)), masks)
    made = protect_depth(rgbd, share[None, None, None], views, "log", alike=1.5, confirmed=0.5)
    torch.testing.assert_close(decode_depth(made[0, 3, 0], "log"), stands, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(made[:, :3], rgbd[:, :3])


@pytest.mark.parametrize(("seen_within", "kept"), [(math.inf, (True, True)), (1.0, (True, False)), (0.0, (False, False))])
def test_agents_that_the_splat_shows_keep_its_colours_and_nothing_else_does(seen_within, kept) -> None:
    valid, moving, age = torch.tensor([1, 1, 1, 0, 0]), torch.tensor([1, 1, 0, 1, 0]), torch.tensor([1.0, 1.5, 0, 0, 0])
    masks = torch.stack([valid, moving, torch.zeros(5), (age_code(age) * 255).round() / 255])[None, :, None]
    views = ViewInputs(torch.full((1, 4, 1, 5), 0.25), torch.zeros(1, 3, 1, 5), masks)
    rgbd, share = keep_agents(torch.full((1, 4, 1, 5), 0.5), torch.full((1, 1, 1, 5), 0.75), views, seen_within)
    stays = torch.tensor([*kept, False, False, False])
    torch.testing.assert_close(rgbd[0, :3, 0], torch.where(stays, 0.25, 0.5).expand(3, 5))
    torch.testing.assert_close(share[0, 0, 0], torch.where(stays, 0.0, 0.75))
    assert (rgbd[0, 3] == 0.5).all()
