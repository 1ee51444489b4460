"""`python -m mendloop.cli` is `mend`."""

from mendloop.cli.app import main

if __name__ == "__main__":
    main()
