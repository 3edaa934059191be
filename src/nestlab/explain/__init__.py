"""From a log to what it means: signatures of known failures, and what to do about each. Pure.

`signatures` holds them, one file per program that speaks; `configurations` reads what people configured, `clouds` is
the one list of providers, `level_below` says who mends the level below. Every room above may ask what a text means.
"""
