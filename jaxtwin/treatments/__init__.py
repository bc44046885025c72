"""Interventions, trials, and the search for the best dose for one patient."""

from jaxtwin.models.ejection import ef_level
from jaxtwin.models.intervention import (
    AbstractIntervention,
    Combination,
    Dose,
    DoseResponse,
    Drug,
    Nothing,
    Settings,
    change,
    combine,
)
from jaxtwin.models.lvad import PumpParameters
from jaxtwin.models.pump import (
    AbstractSpeedLaw,
    BelowSuction,
    FlatteningFlow,
    Pump,
    suction_speed,
)
from jaxtwin.models.therapies import (
    AorticRepair,
    Fluid,
    Inotrope,
    MitralRepair,
    RateControl,
    Vasodilator,
)
from jaxtwin.physics.solution import Event
from jaxtwin.treatments.dosing import ChosenDose, DoseChoice, choose_dose
from jaxtwin.treatments.effects import Effect
from jaxtwin.treatments.optimise import Optimum, optimise_intervention
from jaxtwin.treatments.posterior_trials import (
    PatientEffects,
    PosteriorTrial,
    run_posterior_trial,
)
from jaxtwin.treatments.results import Trial
from jaxtwin.treatments.store import StoredTrial, open_trial, run_trial_into
from jaxtwin.treatments.treat import Outcome, treat
from jaxtwin.treatments.trials import run_trial, trial_endpoints

__all__ = [
    "AbstractIntervention",
    "AbstractSpeedLaw",
    "AorticRepair",
    "BelowSuction",
    "ChosenDose",
    "Combination",
    "Dose",
    "DoseChoice",
    "DoseResponse",
    "Drug",
    "Effect",
    "Event",
    "FlatteningFlow",
    "Fluid",
    "Inotrope",
    "MitralRepair",
    "Nothing",
    "Optimum",
    "Outcome",
    "PatientEffects",
    "PosteriorTrial",
    "Pump",
    "PumpParameters",
    "RateControl",
    "Settings",
    "StoredTrial",
    "Trial",
    "Vasodilator",
    "change",
    "choose_dose",
    "combine",
    "ef_level",
    "open_trial",
    "optimise_intervention",
    "run_posterior_trial",
    "run_trial",
    "run_trial_into",
    "suction_speed",
    "treat",
    "trial_endpoints",
]
