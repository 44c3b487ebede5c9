"""The AWS side: the stacks of a deployment, and the Batch jobs that run in it."""

if __name__ != "keepfit.infra":
    raise ImportError(f"{__name__!r} is the source folder of keepfit.infra; import that instead")
