"""The truth as a log would hold it: the oracle's pictures through the files of a data set. What a world can show at best."""

from __future__ import annotations

import cv2
import numpy as np

from dist4d_env.data.depth_files import decode_depth, encode_depth
from dist4d_env.data.images import read_image, resample_nearest
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldInfo
from dist4d_env.worlds.oracle import OracleState, OracleWorld, actor_boxes, town_renderer


class StoredOracle(OracleWorld):
    """Renders at the size at which the scene's images are stored, then JPEG, 16-bit depth and the reader of every data set."""

    def _show(self, state: OracleState, now: SceneAt) -> tuple[RGBDFrame, WorldInfo]:
        rig, stored = state.start.rig, state.start.scene.rig
        renderer, poses = town_renderer(state), now.global_from_ego @ rig.ego_from_camera
        images = renderer.render(stored, poses, actor_boxes(now.boxes, state.actors), now.time, now.lights)
        size = (stored.height, stored.width), rig.height, rig.width
        rgb = []
        for name, image in zip(stored.names, images.rgb, strict=True):
            _, content = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), renderer.jpeg(name))
            rgb.append(read_image(name, *size, content=content.tobytes()))
        depth = [resample_nearest(decode_depth(encode_depth(image)), *size) for image in images.depth]
        frame = RGBDFrame(np.stack(rgb), np.stack(depth), rig.intrinsics, poses, np.full(len(rig.names), float(now.time)))
        return frame, WorldInfo(("oracle",) * len(rig.names), 0.0, 1.0, {})
