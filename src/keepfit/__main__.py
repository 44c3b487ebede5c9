"""`python -m keepfit` is the `keepfit` command."""

from keepfit.job.cli import main

if __name__ == "__main__":
    main()
