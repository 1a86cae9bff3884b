"""Sparse to dense: values known at some pixels flow to the others along the image, and stop at its edges."""

from __future__ import annotations

from copy import copy

import cv2
import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import cg, splu


class ImageGraph:
    """The pixel grid of one image with edge weights that are small across image edges.

    Solves ``min_x sum_i c_i (x_i - v_i)^2 + sum_ij w_ij (x_i - x_j - g_ij)^2`` (weighted least squares, the optimisation
    behind edge-aware interpolation) over the 4-connected grid: exactly on a small image, by conjugate gradients from the
    half-size solution on a larger one.
    """

    COARSEST = 30_000  # pixels that a direct solver takes in a tenth of a second

    def __init__(self, image: np.ndarray, sharpness: float = 25.0, floor: float = 0.003) -> None:
        """image: (H, W, 3) uint8 RGB. sharpness: how fast weights fall with colour difference; floor: the least weight."""
        self.height, self.width = image.shape[:2]
        self.image, self.sharpness, self.floor = image, sharpness, floor
        lab = cv2.cvtColor(cv2.GaussianBlur(image, (3, 3), 0.6), cv2.COLOR_RGB2LAB).astype(np.float64) / 255
        self.across = self._weights(lab[:, 1:] - lab[:, :-1])  # (H, W - 1)
        self.down = self._weights(lab[1:] - lab[:-1])  # (H - 1, W)
        self._half: ImageGraph | None = None

    def _weights(self, difference: np.ndarray) -> np.ndarray:
        return np.exp(-self.sharpness * np.linalg.norm(difference, axis=-1)) + self.floor

    def cut(self, across: np.ndarray, down: np.ndarray) -> ImageGraph:
        """The same graph with its weights multiplied by factors: (H, W - 1) between columns and (H - 1, W) between rows."""
        graph = copy(self)
        graph.across, graph.down = self.across * across, self.down * down
        if self.height * self.width > self.COARSEST:
            # A coarse edge is as weak as the weaker of the fine edges it replaces.
            coarse = self.half
            wide = np.pad(across, ((0, self.height % 2), (0, 3)), mode="edge")[:, 1::2]
            tall = np.pad(down, ((0, 3), (0, self.width % 2)), mode="edge")[1::2]
            across = np.minimum(wide[::2], wide[1::2])[:, : coarse.width - 1]
            down = np.minimum(tall[:, ::2], tall[:, 1::2])[: coarse.height - 1]
            graph._half = coarse.cut(across, down)
        return graph

    @property
    def half(self) -> ImageGraph:
        """The same image at half the size."""
        if self._half is None:
            size = ((self.width + 1) // 2, (self.height + 1) // 2)
            self._half = ImageGraph(cv2.resize(self.image, size, interpolation=cv2.INTER_AREA), self.sharpness, self.floor)
        return self._half

    def solve(
        self,
        value: np.ndarray,
        confidence: np.ndarray,
        slope: np.ndarray | None = None,
        sloped: np.ndarray | None = None,
        tolerance: float = 1e-4,
    ) -> np.ndarray:
        """The smoothest field (H, W, K) through ``value`` (H, W, K) where ``confidence`` (H, W) > 0.

        slope: (H, W) field whose differences the result takes over between neighbouring pixels of the mask ``sloped`` (H, W),
        instead of being flat there. tolerance: relative residual at which the iteration stops.
        """
        if self.height * self.width <= self.COARSEST:
            matrix, right = self._system(value, confidence, slope, sloped)
            return splu(matrix.tocsc()).solve(right).reshape(value.shape)
        weight = halve(confidence)
        coarse = self.half.solve(
            halve(value * confidence[..., None]) / np.maximum(weight, 1e-12)[..., None],
            weight * 4,
            None if slope is None else halve(slope),
            None if sloped is None else halve(sloped.astype(np.float64)) > 0.5,
            tolerance,
        )
        matrix, right = self._system(value, confidence, slope, sloped)
        start = cv2.resize(coarse, (self.width, self.height), interpolation=cv2.INTER_LINEAR).reshape(right.shape)
        scale = diags(1 / matrix.diagonal())  # stops early, for the start is already close
        columns = zip(right.T, start.T, strict=True)
        solved = [cg(matrix, goal, begin, rtol=tolerance, maxiter=80, M=scale)[0] for goal, begin in columns]
        return np.stack(solved, -1).reshape(value.shape)

    def _system(
        self, value: np.ndarray, confidence: np.ndarray, slope: np.ndarray | None, sloped: np.ndarray | None
    ) -> tuple[csr_matrix, np.ndarray]:
        count = self.height * self.width
        number = np.arange(count).reshape(self.height, self.width)
        diagonal = confidence + 1e-9
        right = confidence[..., None] * value
        pairs = ((self.across, np.s_[:, 1:], np.s_[:, :-1]), (self.down, np.s_[1:], np.s_[:-1]))
        for weight, one, other in pairs:
            diagonal[one] += weight
            diagonal[other] += weight
            if slope is not None and sloped is not None:
                step = (weight * (sloped[one] & sloped[other]) * (slope[one] - slope[other]))[..., None]
                right[one] += step
                right[other] -= step
        entries = np.concatenate([-weight.ravel() for weight, _, _ in pairs])
        rows = np.concatenate([number[one].ravel() for _, one, _ in pairs])
        columns = np.concatenate([number[other].ravel() for _, _, other in pairs])
        upper = csr_matrix((entries, (rows, columns)), shape=(count, count))
        return (upper + upper.T + diags(diagonal.ravel())).tocsr(), right.reshape(count, -1)


def halve(field: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 blocks; an odd last row or column is repeated."""
    padded = np.pad(field, [(0, field.shape[0] % 2), (0, field.shape[1] % 2)] + [(0, 0)] * (field.ndim - 2), mode="edge")
    return (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]) / 4
