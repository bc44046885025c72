"""Does a system keep its promises? A report for whoever writes a new one.

print(check_system(MySystem()))
"""

from jaxtwin.physics.check.report import Problem as Problem
from jaxtwin.physics.check.report import Report as Report
from jaxtwin.physics.check.system import check_system as check_system
