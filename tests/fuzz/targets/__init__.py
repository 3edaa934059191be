"""The targets: each a module with a class `Fuzzed` (see `fuzz.target.Target`)."""
