"""Airflow's side of Labelops: hooks, operators, triggers. The thinking is in ``include``."""
