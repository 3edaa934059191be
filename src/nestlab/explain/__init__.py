"""From a log to what it means: signatures of known failures, and what to do about each. Pure.

`signatures` holds them, one file per program that speaks; every room above may ask for the meaning of a text.
"""
