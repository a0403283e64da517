"""Tests of the framework of XGBoost."""
