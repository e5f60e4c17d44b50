"""How far annotators agree, and whom to trust: coefficients, intervals, breakdowns, spans, Dawid-Skene.

Pure functions on arrays. Ratings come as a matrix of integer codes, units × annotators, -1 where there is none
(:mod:`include.agreement.coefficients`). A number that the data do not support is None with a reason, never a guess.
"""
