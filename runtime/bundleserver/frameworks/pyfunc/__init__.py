"""Any model that ``mlflow.pyfunc`` loads."""
