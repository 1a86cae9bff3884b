"""What the labels of data sets are among the simulator's categories.

Riders are what they ride, trains and trams, which nuScenes has none of, are buses: what moves like it and is as large. Where a
data set knows only vehicles, they are cars. "other" is for what neither drives nor walks.
"""

from __future__ import annotations

from collections.abc import Mapping

from dist4d_env.errors import DataError
from dist4d_env.geometry.boxes import CATEGORIES


def _by_label(**labels: str) -> dict[str, str]:
    """Category by label, from labels, apart by spaces, by category."""
    return {label: category for category, names in labels.items() for label in names.split()}


CATEGORY_OF: Mapping[str, Mapping[str, str]] = {
    "DefaultBoxDetectionLabel": _by_label(
        car="VEHICLE",
        bus="TRAIN",
        bicycle="TWO_WHEELER",
        pedestrian="PERSON",
        traffic_cone="TRAFFIC_CONE",
        barrier="BARRIER",
        other="ANIMAL TRAFFIC_SIGN TRAFFIC_LIGHT GENERIC_OBJECT OTHER",
    ),
    "NuScenesBoxDetectionLabel": _by_label(
        car="VEHICLE_CAR",
        truck="VEHICLE_TRUCK",
        bus="VEHICLE_BUS_BENDY VEHICLE_BUS_RIGID",
        trailer="VEHICLE_TRAILER",
        construction_vehicle="VEHICLE_CONSTRUCTION",
        motorcycle="VEHICLE_MOTORCYCLE",
        bicycle="VEHICLE_BICYCLE",
        pedestrian="HUMAN_PEDESTRIAN_ADULT HUMAN_PEDESTRIAN_CHILD HUMAN_PEDESTRIAN_CONSTRUCTION_WORKER "
        "HUMAN_PEDESTRIAN_POLICE_OFFICER",
        traffic_cone="MOVABLE_OBJECT_TRAFFICCONE",
        barrier="MOVABLE_OBJECT_BARRIER",
        other="VEHICLE_EMERGENCY_AMBULANCE VEHICLE_EMERGENCY_POLICE HUMAN_PEDESTRIAN_PERSONAL_MOBILITY "  # as the detection
        "HUMAN_PEDESTRIAN_STROLLER HUMAN_PEDESTRIAN_WHEELCHAIR MOVABLE_OBJECT_PUSHABLE_PULLABLE "  # benchmark has them
        "MOVABLE_OBJECT_DEBRIS STATIC_OBJECT_BICYCLE_RACK ANIMAL",
    ),
    "NuPlanBoxDetectionLabel": _by_label(
        car="VEHICLE",
        bicycle="BICYCLE",
        pedestrian="PEDESTRIAN",
        traffic_cone="TRAFFIC_CONE",
        barrier="BARRIER",
        other="CZONE_SIGN GENERIC_OBJECT",
    ),
    "AV2SensorBoxDetectionLabel": _by_label(
        car="REGULAR_VEHICLE",
        truck="BOX_TRUCK LARGE_VEHICLE TRUCK TRUCK_CAB",
        bus="ARTICULATED_BUS BUS SCHOOL_BUS RAILED_VEHICLE",
        trailer="MESSAGE_BOARD_TRAILER TRAFFIC_LIGHT_TRAILER VEHICULAR_TRAILER",
        motorcycle="MOTORCYCLE MOTORCYCLIST",
        bicycle="BICYCLE BICYCLIST WHEELED_RIDER",
        pedestrian="OFFICIAL_SIGNALER PEDESTRIAN WHEELCHAIR",
        traffic_cone="CONSTRUCTION_BARREL CONSTRUCTION_CONE",
        barrier="BOLLARD",
        other="ANIMAL DOG MOBILE_PEDESTRIAN_CROSSING_SIGN SIGN STOP_SIGN STROLLER WHEELED_DEVICE",
    ),
    "WODPerceptionBoxDetectionLabel": _by_label(
        car="TYPE_VEHICLE", bicycle="TYPE_CYCLIST", pedestrian="TYPE_PEDESTRIAN", other="TYPE_SIGN TYPE_UNKNOWN"
    ),
    "WODMotionBoxDetectionLabel": _by_label(
        car="TYPE_VEHICLE", bicycle="TYPE_CYCLIST", pedestrian="TYPE_PEDESTRIAN", other="TYPE_OTHER TYPE_UNSET"
    ),
    "PandasetBoxDetectionLabel": _by_label(
        car="CAR PICKUP_TRUCK EMERGENCY_VEHICLE OTHER_VEHICLE_UNCOMMON",
        truck="MEDIUM_SIZED_TRUCK SEMI_TRUCK",
        bus="BUS TRAIN TRAM_SUBWAY",
        trailer="TOWED_OBJECT",
        construction_vehicle="OTHER_VEHICLE_CONSTRUCTION_VEHICLE",
        motorcycle="MOTORCYCLE MOTORIZED_SCOOTER",
        bicycle="BICYCLE OTHER_VEHICLE_PEDICAB PERSONAL_MOBILITY_DEVICE",
        pedestrian="PEDESTRIAN PEDESTRIAN_WITH_OBJECT",
        traffic_cone="CONES PYLONS",
        barrier="ROAD_BARRIERS TEMPORARY_CONSTRUCTION_BARRIERS",
        other="ANIMALS_BIRD ANIMALS_OTHER CONSTRUCTION_SIGNS ROLLING_CONTAINERS SIGNS",
    ),
    "KITTI360BoxDetectionLabel": _by_label(
        car="CAR",
        truck="TRUCK",
        bus="BUS TRAIN",
        trailer="CARAVAN TRAILER",
        motorcycle="MOTORCYCLE",
        bicycle="BICYCLE RIDER",
        pedestrian="PERSON",
        other="BOX LAMP POLE SMALLPOLE STOP TRAFFIC_LIGHT TRAFFIC_SIGN TRASH_BIN VENDING_MACHINE",
    ),
    "PhysicalAIAVBoxDetectionLabel": _by_label(
        car="AUTOMOBILE OTHER_VEHICLE",
        truck="HEAVY_TRUCK",
        bus="BUS TRAIN_OR_TRAM_CAR TROLLEY_BUS",
        trailer="TRAILER",
        bicycle="RIDER",
        pedestrian="PERSON",
        other="ANIMAL PROTRUDING_OBJECT STROLLER",
    ),
    "NureasoningBoxDetectionLabel": _by_label(
        car="VEHICLE_CAR",
        truck="VEHICLE_TRUCK",
        bus="VEHICLE_BUS",
        motorcycle="VEHICLE_MOTORCYCLE",
        bicycle="VEHICLE_BICYCLE VEHICLE_PERSONAL_MOBILITY_BYCICLE",
        pedestrian="HUMAN HUMAN_PEDESTRIAN",
        traffic_cone="OTHER_TRAFFICCONE CONSTRUCTION_TRAFFIC_CONE",
        other="OTHER_TEMPORARY_TRAFFICSIGN OTHER_OTHER VEHICLE_DOOR",
    ),
    "GriffinBoxDetectionLabel": _by_label(
        car="CAR", truck="TRUCK", bus="BUS", motorcycle="MOTORCYCLE", bicycle="BICYCLE", pedestrian="PEDESTRIAN"
    ),
    "TruckDriveBoxDetectionLabel": _by_label(
        car="PASSENGER_CAR VEHICLE EMERGENCY_VEHICLE",
        truck="SEMI_TRUCK_CAB",
        trailer="SEMI_TRUCK_TRAILER",
        bicycle="BIKE",
        pedestrian="PERSON",
        barrier="ROAD_OBSTRUCTION",
        other="TRAFFIC_SIGN",
    ),
}
"""Names of ``geometry.boxes.CATEGORIES`` by py123d's class of labels and its member."""


def category_index(kind: str, label: str) -> int:
    """Index into CATEGORIES of a label of a class of labels. Raises DataError for one that is in no table."""
    category = CATEGORY_OF.get(kind, {}).get(label)
    if category is None:
        raise DataError(
            f"an object's label is {label} of {kind}, which has no category here: add it to CATEGORY_OF in "
            "dist4d_env/data/py123d/labels.py"
        )
    return CATEGORIES.index(category)
