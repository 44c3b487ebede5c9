"""`python -m keepfit` is the `keepfit` command."""

import os
import sys

if __name__ == "__main__":
    # `python -m` puts the working directory first, where a module of the user's could hide one that
    # the command needs. The `keepfit` script has its own folder there, as if called by its path.
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(sys.executable)
    from keepfit.job.cli import main

    main()
