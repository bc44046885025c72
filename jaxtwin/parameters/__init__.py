"""Parameters with units, bounds and sources, and boxes in which some of them are free.

A model declares each parameter once:

    class SpringParameters(AbstractParameters):
        k: Scalar = parameter(1.0, (0.1, 10.0), "N/m", "stiffness")

This declaration provides the default value, the bounds of Sobol samples and of the maps between
bounded and unbounded parameters, the axis labels and the tables.
"""

from jaxtwin.parameters.box import Box as Box
from jaxtwin.parameters.declaration import AbstractParameters as AbstractParameters
from jaxtwin.parameters.declaration import ParameterSpec as ParameterSpec
from jaxtwin.parameters.declaration import Scalar as Scalar
from jaxtwin.parameters.declaration import Theta as Theta
from jaxtwin.parameters.declaration import parameter as parameter
from jaxtwin.parameters.declaration import table as table
from jaxtwin.parameters.prior import NormalPrior as NormalPrior
