"""Run a Keras script as a job: the `keepfit` command, log output, signals and exit codes."""

if __name__ != "keepfit.job":
    raise ImportError(f"{__name__!r} is the source folder of keepfit.job; import that instead")
