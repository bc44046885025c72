from .build import build_twin as build_twin
from .echo import EchoTwin as EchoTwin
from .echo import TwinBuilder as TwinBuilder
from .saving import load_builder as load_builder
from .saving import save_builder as save_builder
from .twin import Twin as Twin
from .twin import describe as describe
from .twin import load_twin as load_twin
from .twin import summary as summary

__all__: list[str]
