from adapters.hs.timer import Timer as Timer
from adapters.hs.timer import doAfter as doAfter
