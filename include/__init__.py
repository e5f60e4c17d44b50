"""Labelops' own thinking: everything that needs no Airflow."""
