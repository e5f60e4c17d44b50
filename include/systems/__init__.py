"""The outside systems: one package each, with what it says as values and the client that alone speaks to it.

Beside them stands what the clients share: requests that are tried again, their pace, lists that can be taken up again.
"""
