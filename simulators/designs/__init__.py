"""Single-stage studies with known propensities and effects."""

from simulators.designs.base import Design, PropensityDesign
from simulators.designs.hidden import WorstConfounder
from simulators.designs.ihdp import IHDP
from simulators.designs.kunzel import Kunzel
from simulators.designs.nie_wager import NieWager
from simulators.designs.simple import BinaryInstrument, KangSchafer, Kennedy, Point

__all__ = [
    "IHDP",
    "BinaryInstrument",
    "Design",
    "KangSchafer",
    "Kennedy",
    "Kunzel",
    "NieWager",
    "Point",
    "PropensityDesign",
    "WorstConfounder",
]
