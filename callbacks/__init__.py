"""The callbacks that `model.fit` sees, and the checkpoint engine behind them."""

if __name__ != "keepfit.callbacks":
    raise ImportError(
        f"{__name__!r} is the source folder of keepfit.callbacks; import that instead"
    )
