"""One module per use case: its functions, named like the steps of its DAG.

A function says in its signature what it needs, does its outside effects under a claim, puts them on the ledger, and
returns something small. Every step can be killed at any point and run again.
"""
