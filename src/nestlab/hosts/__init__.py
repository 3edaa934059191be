"""A host: something to run commands on, to read and write files on, and to ask for its facts.

`host` says what one is; this machine, machines of a lab and machines of the user's own are made by `hosts`. Effects go
through `wire`. It knows nothing of labs: a hypervisor that runs is a host like any other.
"""
