"""Fuzzing: what comes from lab files, hosts, guests and servers is made up, and nestlab must take it or refuse it.

A target (`targets/`) makes cases from a random number generator and runs nestlab on one; a case is bytes. `worker`
runs a row of cases in a process of limited memory and time, `runner` starts such processes, counts, and stores what
was found, shrunk, in `found/TARGET/`, where tests/test_fuzz.py runs it again ever after. `make fuzz` is all of it.
"""
