from .base import ClipFormat as ClipFormat
from .base import EchoVideo as EchoVideo
from .base import UnreadableClipError as UnreadableClipError
from .cache import ClipCache as ClipCache
from .camus import read_camus as read_camus
from .echonet import read_echonet as read_echonet
from .recording import read_recording as read_recording
from .vitals import Vitals as Vitals
