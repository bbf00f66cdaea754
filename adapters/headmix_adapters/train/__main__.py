"""`python -m headmix_adapters.train RECIPE`: the train command alone."""

import typer

from headmix_adapters.train.cli import train

if __name__ == "__main__":
    typer.run(train)
