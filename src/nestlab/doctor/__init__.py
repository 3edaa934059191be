"""The doctor: facts of a host in, findings out; what it would change, and how that is undone. Pure but for `surgery`.

`gather` asks (one shell script, one round trip) and parses; `checks` judge; `remedies` say what to change; `surgery`
changes it and takes it back. All of them work on any `host.Host`: this machine, one reached by ssh, a machine of a lab.
"""
