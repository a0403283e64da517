"""Who may load and unload by request: the one place that decides, for every protocol."""

from bundleserver.serving.administration.asking import Asked
from bundleserver.serving.administration.deciding import Administration
from bundleserver.serving.administration.discretion import Discretion
from bundleserver.serving.administration.records import AdminMetrics

__all__ = ["AdminMetrics", "Administration", "Asked", "Discretion"]
