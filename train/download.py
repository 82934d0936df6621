"""Fetching the Kaggle collection for people with a network."""

from pathlib import Path

from hematovision.errors import DataSetError, reason_of

KAGGLE_HANDLE = "paultimothymooney/blood-cells"


def download_kaggle() -> Path:
    """Fetch the collection, or find the copy fetched before: its folder, readable by `read_dataset`.

    Raises:
        DataSetError: it cannot be fetched.
    """
    import kagglehub
    from kagglehub import exceptions

    try:
        return Path(kagglehub.dataset_download(KAGGLE_HANDLE))
    except (
        OSError,  # requests' errors are OSErrors
        ValueError,
        exceptions.BackendError,
        exceptions.CredentialError,
        exceptions.DataCorruptionError,
        exceptions.KaggleEnvironmentError,
        exceptions.NotFoundError,
        exceptions.UnauthenticatedError,
    ) as error:
        reason = reason_of(error)[:100]
        raise DataSetError(
            f"{KAGGLE_HANDLE}: cannot be fetched from Kaggle ({reason}); check the network, or fetch it "
            "with a browser, unpack it and give its folder"
        ) from error
