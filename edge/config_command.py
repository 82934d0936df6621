"""``hematovision config``: the settings in force, and everything that is wrong with them."""

import ssl
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from edge.cameras import open_camera
from edge.command_options import NO_SCALE, config_option, load_blank, load_classifier
from edge.config import (
    FoundSettings,
    Settings,
    find_file,
    find_settings,
    read_password,
    state_folder,
)
from edge.config_text import show_settings, shown_source
from edge.token import stored_hash
from hematovision.errors import HematoVisionError, SettingError
from hematovision.finder import load_finder
from hematovision.images import shown_path
from hematovision.terminal.streams import write_for_programs


@click.group()
def config() -> None:
    """The settings in force, and whether they can be right."""


@config.command()
@config_option
def show(config: str | None) -> None:
    """Print all settings as TOML, each with where it comes from; the output can be the start of a file.

    A camera's address is shown without its password.
    """
    found = find_settings(find_file(config))
    write_for_programs()  # a settings file is UTF-8
    for line in show_settings(found):
        click.echo(line)
    _say_mistakes(found.mistakes)


@config.command()
@click.argument("file", required=False)
def check(file: str | None) -> None:
    """Find every mistake in the settings, also in the files that they name; no camera is opened.

    Ends with status 2 where there is one. FILE is /etc/hematovision.toml where there is one, if not given.
    """
    path = find_file(file)
    found = find_settings(path)
    _say_mistakes([*found.mistakes, *mistakes_beyond(found, path)])
    click.echo(f"{'The defaults' if path is None else shown_path(path)}: no mistakes.")
    if not found.settings.camera.source:
        click.echo("No camera is set: hematovision run needs camera.source or --camera.")
    _say_who_may_look(found.settings)


def mistakes_beyond(found: FoundSettings, path: Path | None) -> list[str]:
    """What is wrong with what the settings name, a line each: model, blank field, camera, password, token.

    Args:
        found: the settings; their own mistakes are not repeated.
        path: the file that they come from, if any.
    """
    settings = found.settings
    checks: list[tuple[str, Callable[[Settings], object]]] = [
        ("camera", _check_camera),
        ("camera.blank", _check_blank),
        ("model", _check_model),
        ("mqtt", _check_mqtt),
        ("web", _check_web),
    ]
    wrong = []
    for name, look in checks:
        try:
            look(settings)
        except HematoVisionError as error:
            wrong.append(f"{name}: {error}")
    source = settings.camera.source
    if path is not None and shown_source(source) != source and path.stat().st_mode & stat.S_IROTH:
        name = shown_path(path)
        wrong.append(
            f"{name}: other users can read it, and camera.source may hold a password; end that with "
            f"chmod o= {name}, its group being the service's"
        )
    return wrong


def _say_who_may_look(settings: Settings) -> None:
    from edge.web.auth import is_loopback  # with Flask, which takes long to load

    web = settings.web
    if web.port and is_loopback(web.host) and not web.read_without_token:
        click.echo(
            "Whoever asks for the page from this machine may look without the token. Have a proxy on it set "
            "X-Forwarded-Proto: through one that sets no such header (nginx by default) everybody may look.",
            err=True,
        )


def _say_mistakes(mistakes: Sequence[str]) -> None:
    for mistake in mistakes:
        click.echo(f"Error: {mistake}", err=True)
    if mistakes:
        raise SystemExit(SettingError.exit_status)


def _check_camera(settings: Settings) -> None:
    source, um_per_pixel = settings.camera.source, settings.camera.um_per_pixel
    if not source:
        return
    camera = open_camera(source, NO_SCALE if um_per_pixel is None else um_per_pixel)
    if camera.live and um_per_pixel is None and camera.um_per_pixel is None:
        raise SettingError(
            "um_per_pixel is not set, which a live camera needs; hematovision calibrate --camera measures it"
        )


def _check_blank(settings: Settings) -> None:
    load_blank(settings.camera.blank or None)


def _check_model(settings: Settings) -> None:
    load_classifier(settings.model.file or None, settings.model.runtime, 1, 1)
    load_finder(settings.model.finder or None, settings.model.runtime)


def _check_mqtt(settings: Settings) -> None:
    mqtt = settings.mqtt
    if mqtt.password_file:
        read_password(Path(mqtt.password_file))
    if mqtt.ca_file:
        try:
            ssl.create_default_context(cafile=mqtt.ca_file)
        except OSError as error:  # what is no certificate is one too
            raise SettingError(
                f"ca_file: {shown_path(mqtt.ca_file)} holds no certificates that can be read "
                f"({error.strerror}); check the path"
            ) from error


def _check_web(settings: Settings) -> None:
    from edge.web.auth import is_loopback  # with Flask, which takes long to load

    web, folder = settings.web, state_folder(settings)
    if web.port and stored_hash(folder) is None and not is_loopback(web.host):
        raise SettingError(
            f"host is {web.host}, which other machines reach, and there is no token in {shown_path(folder)}; "
            "make one with hematovision token new, with the same --config"
        )
