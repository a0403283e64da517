"""Saves the next version of a model. Usage: publisher.py STORE NAME FACTOR PIPE.

Pickling says ``saving`` and waits at the pipe, so that this process can be killed in the middle.
"""

import sys

from bundleserver import BundleStore
from tests.end_to_end import gated
from tests.end_to_end.published import save_times

store, name, factor, pipe = sys.argv[1:]
save_times(BundleStore(store), name, gated.SlowToSave(float(factor), pipe))
