"""A lab as a value: what is wanted (`model`), with everything settled that the lab file left open (`blueprint`).

Addresses, names and digests are decided here. Pure, but for `blueprint_file`, which keeps a blueprint in a file. It
knows nothing of YAML (`labfile`), of what is there (`plan`) or of how machines are made (`engines`).
"""
