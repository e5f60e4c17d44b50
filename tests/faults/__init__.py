"""Faults by seed: the operators of the five DAGs live through what networks, disks and machines do to them."""
