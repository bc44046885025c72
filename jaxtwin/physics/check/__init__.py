"""Check of a new system: a report on its methods, derivatives and accuracy.

print(check_system(MySystem()))
"""

from jaxtwin.physics.check.report import Problem as Problem
from jaxtwin.physics.check.report import Report as Report
from jaxtwin.physics.check.system import check_system as check_system
