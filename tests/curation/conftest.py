"""The fixtures of the tests of data sets: curation works on the same ones."""

from tests.scenes.conftest import *  # noqa: F403
