"""`python -m nestlab` is `nestlab`."""

from nestlab.cli import main

if __name__ == "__main__":
    main()
