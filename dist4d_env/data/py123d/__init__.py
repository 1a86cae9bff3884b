"""Drives of other data sets, as logs that py123d has converted: Argoverse 2, nuPlan, Waymo, PandaSet, KITTI-360 and more.

py123d is imported where a log is opened and nowhere else: it takes seconds, and whoever has no such logs need not have it.
"""
