from .clinic import ECHO_LABORATORY as ECHO_LABORATORY
from .diseases import DISEASES as DISEASES
from .diseases import HEALTHY as HEALTHY
from .diseases import Disease as Disease
from .diseases import Patients as Patients
from .diseases import beyond_health as beyond_health
from .diseases import draw_diseased as draw_diseased
from .population import Marginal as Marginal
from .population import Population as Population
from .population import compare_population as compare_population
from .population import draw_population as draw_population

__all__: list[str]
