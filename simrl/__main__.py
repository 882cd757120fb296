"""`python -m simrl`: the `simrl` command."""

from simrl.cli import main

if __name__ == "__main__":
    main()
