"""The comparison of runs, all in one place: what varied, what it did, and the same in words."""

from medsynth.report.effects import Effect as Effect
from medsynth.report.effects import PairedDifference as PairedDifference
from medsynth.report.effects import better as better
from medsynth.report.effects import differences as differences
from medsynth.report.effects import effects as effects
from medsynth.report.effects import pareto as pareto
from medsynth.report.effects import seed_spread as seed_spread
from medsynth.report.factors import Factor as Factor
from medsynth.report.factors import factors as factors
from medsynth.report.factors import value_of as value_of
from medsynth.report.interaction import Interaction as Interaction
from medsynth.report.interaction import interaction as interaction
from medsynth.report.notes import notes as notes
from medsynth.report.words import verdict as verdict
