"""Checks the settings' values before anything is opened: whether their URLs and folders are usable.

Each part checks its own URL. Nothing is connected to.
"""

import os

from headmix_server.app.errors import SettingError, SettingErrors
from headmix_server.catalog.bytes.bucket import BucketUnusable, open_bucket
from headmix_server.catalog.names import NOWHERE, parse_reference
from headmix_server.core.settings.settings import Settings
from headmix_server.database import DatabaseUnusable, check_url
from headmix_server.tenancy.limits.rates import RateStorageError, open_storage
from headmix_server.training.options import read_cores


def check_settings(settings: Settings) -> None:
    """Check the settings.

    Raises:
        SettingError: it names every setting with an invalid value.
    """
    faults = []
    checks = (
        _check_database,
        _check_artifacts,
        _check_limits_storage,
        _check_preload,
        _check_moderation_adapter,
        _check_cores,
    )
    for check in checks:
        try:
            check(settings)
        except SettingError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise SettingErrors(faults)


def _check_database(settings: Settings) -> None:
    if settings.database is not None:
        try:
            check_url(settings.database.get_secret_value())
        except DatabaseUnusable as error:
            raise SettingError("database", error) from error


def _check_artifacts(settings: Settings) -> None:
    if settings.artifacts is not None:
        try:
            open_bucket(settings.artifacts.get_secret_value())
        except BucketUnusable as error:
            raise SettingError("artifacts", error) from error


def _check_limits_storage(settings: Settings) -> None:
    if settings.limits_storage is not None:
        try:
            open_storage(settings.limits_storage.get_secret_value())
        except RateStorageError as error:
            raise SettingError("limits_storage", error) from error


def _check_cores(settings: Settings) -> None:
    try:
        read_cores(settings.train_cores)
    except ValueError as error:
        fault = f"takes cores such as `0,2-3`, not {settings.train_cores!r}: {error}"
        raise SettingError("train_cores", fault) from error


def _check_preload(settings: Settings) -> None:
    folder = settings.preload
    if folder is not None and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        raise SettingError("preload", f"takes a readable folder, not {folder}")


def _check_moderation_adapter(settings: Settings) -> None:
    name = settings.moderation_adapter
    if name is not None and parse_reference(name) == NOWHERE:
        raise SettingError(
            "moderation_adapter", f"takes `name`, `name@3`, `owner/name` or `owner/name@3`, not {name!r}"
        )
