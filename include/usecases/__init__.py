"""What each DAG does, step by step, in terms of the packages beside this one.

A step takes a :class:`include.run.run.Run` and the gateways it needs, does its outside effects under a claim,
puts them on the ledger, and returns something small. Every step can be killed at any point and run again.
"""
