"""What nestlab keeps on the user's machine: labs, their keys and journals, the cache, and the locks on them.

`directories` says where all of it is; nothing else here decides a path. It knows blueprints and hosts, no engines.
"""
