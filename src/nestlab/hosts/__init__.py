"""A host: something to run commands on, to read and write files on, and to ask for its facts.

`host` says what one is. `local` is this machine, `ssh` makes machines that are reached by ssh, and `remote` knows how a
machine of the user's own is reached. Effects go through `wire`. This room knows nothing of labs: a hypervisor that runs
is a host like any other.
"""
