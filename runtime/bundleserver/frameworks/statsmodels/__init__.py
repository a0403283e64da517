"""Saved results of statsmodels: time series and regressions."""
