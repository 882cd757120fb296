"""Peers: the same learners as a good user of a plain library writes them, to time and to check.

Every peer is one file with a function for each problem it solves: `ten_armed`, `guessing`,
`one_token`, each from (problem, seed) to `Curves` (see `problems`).
"""
