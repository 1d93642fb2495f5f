"""Settings: everything an operator can choose, read from the environment once and then frozen.

Unknown values are refused at start, never guessed: a typo in `TG_ENVIRONMENT` must not switch production off.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import platformdirs

from tg_workbench.errors import InvalidSetting
from tg_workbench.home import belong, database_of

Environment = Literal["development", "production"]
RateLimits = Literal["on", "off", "relaxed"]
Registration = Literal["open", "invite", "closed"]
_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,188}[A-Za-z0-9])?"
)
SQLITE = "sqlite:///"
USUAL_DATABASE = f"{SQLITE}./tgsp.db"
UNIX = "unix"
"""What `TG_TRUSTED_PROXIES` calls whoever reaches the workbench by a Unix socket."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one workbench runs. Every field has an environment variable, named beside it."""

    environment: Environment = "development"
    """`TG_ENVIRONMENT`: development or production."""
    allowed_origins: tuple[str, ...] = ("http://localhost:3000", "http://localhost:5173")
    """`TG_ALLOWED_ORIGINS`: comma-separated origins that browsers may call from (CORS)."""
    allow_credentials: bool = False
    """`TG_ALLOW_CREDENTIALS`: whether those origins may send credentials."""
    enable_security_headers: bool = True
    """`TG_ENABLE_SECURITY_HEADERS`: nosniff, frame, XSS and referrer headers on every answer."""
    database_url: str = USUAL_DATABASE
    """`DATABASE_URL`: a SQLite file, `sqlite:///` and its path. Unset, that which `home` belongs to."""
    port: int = 8000
    """`PORT`: where `tg-workbench serve` listens."""
    home: Path = Path(platformdirs.user_data_dir("tg-workbench"))
    """`TG_HOME`: where blobs, keys, caches and sockets live (made with mode 0700)."""
    api_key: str | None = None
    """`TG_API_KEY`: a key that stands for the local principal; the server extension sets it for kernels."""
    registration: Registration = "open"
    """`TG_REGISTRATION`: who may register: open (everybody; in production it is invite), invite or closed."""
    public_url: str | None = None
    """`TG_PUBLIC_URL`: where others reach this workbench. Unset, applications are let in at the address that
    a request names, and in production not at all."""
    auth_disabled: bool = False
    """`TG_AUTH_DISABLED`: no credential needed; only in development, on a loopback or Unix-socket bind."""
    max_workers: int = 4
    """`TG_MAX_WORKERS`: how many training clients may hold a worker process at once."""
    max_jobs: int = 2
    """`TG_MAX_JOBS`: how many jobs may run at once; the others wait their turn."""
    restart_days: int = 7
    """`TG_RESTART_DAYS`: for so long a job that failed or was cancelled can be restarted; then the checkpoint
    it would go on from is removed."""
    max_inference_workers: int = 8
    """`TG_MAX_INFERENCE_WORKERS`: how many processes may answer for models at once."""
    triton_url: str | None = None
    """`TG_TRITON_URL`: an Open Inference Protocol v2 server, such as Triton, that is asked first for models
    of services with runtime `triton`. It is sent the rows: name none that you do not trust with them."""
    triton_token: str | None = field(default=None, repr=False)
    """`TG_TRITON_TOKEN`: what is sent to it as a bearer's token."""
    max_upload_bytes: int = 2 * 1024**3
    """`TG_MAX_UPLOAD_BYTES`: the largest dataset file, or update of a device, that is taken."""
    min_upload_rate: int = 64 * 1024
    """`TG_MIN_UPLOAD_RATE`: how many bytes a second a file must bring, on average, once its grace is over."""
    upload_grace_seconds: float = 60.0
    """`TG_UPLOAD_GRACE_SECONDS`: how long a file may come as slowly as it likes."""
    worker_idle_seconds: float = 900.0
    """`TG_WORKER_IDLE_SECONDS`: an idle worker saves itself and leaves after this long."""
    max_body_bytes: int = 64 * 1024 * 1024
    """`TG_MAX_BODY_BYTES`: the largest request body that is read."""
    max_devices: int = 10_000
    """`TG_MAX_DEVICES`: how many devices one organisation may have."""
    require_device_keys: bool = False
    """`TG_REQUIRE_DEVICE_KEYS`: whether a device must bring keys of its own to be enrolled; otherwise the
    server makes them for one that brings none, and hands them over once."""
    flower_python: Path | None = None
    """`TG_FLOWER_PYTHON`: the Python of an environment with Flower, whose strategies rounds may then use. It
    is given the devices' updates: name none that you do not trust with them."""
    rate_limits: RateLimits = "off"
    """`TG_RATE_LIMITS`: on, off, or relaxed (ten times as much). Unset, it is on in production only."""
    redis_url: str | None = None
    """`REDIS_URL`: where several API processes count requests together."""
    trusted_proxies: tuple[str, ...] = ()
    """`TG_TRUSTED_PROXIES`: addresses, networks and `unix`, by commas: whose X-Forwarded-For is believed."""
    webhook_allow_loopback: bool = False
    """`TG_WEBHOOK_ALLOW_LOOPBACK`: webhooks may go to this very machine; only in development."""
    smtp_url: str | None = field(default=None, repr=False)
    """`TG_SMTP_URL`: `smtp(s)://user:password@host:port`, through which e-mail goes. Unset, none is sent."""
    smtp_from: str | None = None
    """`TG_SMTP_FROM`: the address that e-mail comes from."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings named by `environ` (default: this process's). Raises InvalidSetting."""
        values = os.environ if environ is None else environ
        default = cls()
        environment = values.get("TG_ENVIRONMENT", default.environment)
        if environment not in ("development", "production"):
            raise InvalidSetting("TG_ENVIRONMENT", environment, "development or production")
        home = Path(values.get("TG_HOME") or default.home).expanduser().absolute()
        if _flag(values, "TG_ALLOW_HUB", False):
            raise InvalidSetting("TG_ALLOW_HUB", "true", "unset: this version never asks a hub")
        return cls(
            environment=environment,  # type: ignore[arg-type]  # narrowed by the membership test above
            allowed_origins=_origins(values.get("TG_ALLOWED_ORIGINS"), default.allowed_origins),
            allow_credentials=_flag(values, "TG_ALLOW_CREDENTIALS", default.allow_credentials),
            enable_security_headers=_flag(
                values, "TG_ENABLE_SECURITY_HEADERS", default.enable_security_headers
            ),
            database_url=_database_url(values.get("DATABASE_URL") or _own_database(home)),
            port=_whole(values, "PORT", default.port, 0, 65535),
            home=home,
            api_key=values.get("TG_API_KEY", "").strip() or None,
            registration=_registration(values.get("TG_REGISTRATION", "").strip(), environment),
            public_url=values.get("TG_PUBLIC_URL", "").strip().rstrip("/") or None,
            auth_disabled=_flag(values, "TG_AUTH_DISABLED", default.auth_disabled),
            max_workers=_whole(values, "TG_MAX_WORKERS", default.max_workers, 1, 1024),
            max_jobs=_whole(values, "TG_MAX_JOBS", default.max_jobs, 1, 1024),
            restart_days=_whole(values, "TG_RESTART_DAYS", default.restart_days, 1, 36_500),
            max_inference_workers=_whole(
                values, "TG_MAX_INFERENCE_WORKERS", default.max_inference_workers, 1, 1024
            ),
            triton_url=_triton_url(values.get("TG_TRITON_URL", "").strip()),
            triton_token=values.get("TG_TRITON_TOKEN", "").strip() or None,
            max_upload_bytes=_whole(values, "TG_MAX_UPLOAD_BYTES", default.max_upload_bytes, 1024, 2**44),
            min_upload_rate=_whole(values, "TG_MIN_UPLOAD_RATE", default.min_upload_rate, 1, 2**30),
            upload_grace_seconds=float(
                _whole(values, "TG_UPLOAD_GRACE_SECONDS", int(default.upload_grace_seconds), 1, 86_400)
            ),
            worker_idle_seconds=float(
                _whole(values, "TG_WORKER_IDLE_SECONDS", int(default.worker_idle_seconds), 1, 10**7)
            ),
            max_body_bytes=_whole(values, "TG_MAX_BODY_BYTES", default.max_body_bytes, 1024, 2**40),
            max_devices=_whole(values, "TG_MAX_DEVICES", default.max_devices, 1, 1_000_000),
            require_device_keys=_flag(values, "TG_REQUIRE_DEVICE_KEYS", default.require_device_keys),
            flower_python=_program("TG_FLOWER_PYTHON", values.get("TG_FLOWER_PYTHON", "").strip()),
            rate_limits=_rate_limits(values.get("TG_RATE_LIMITS"), environment),
            redis_url=_redis_url(values.get("REDIS_URL", "").strip()),
            trusted_proxies=_networks(values.get("TG_TRUSTED_PROXIES", "")),
            webhook_allow_loopback=_flag(values, "TG_WEBHOOK_ALLOW_LOOPBACK", default.webhook_allow_loopback),
            **_smtp(values.get("TG_SMTP_URL", "").strip(), values.get("TG_SMTP_FROM", "").strip()),
        )

    @property
    def production(self) -> bool:
        """Whether this workbench faces real users."""
        return self.environment == "production"

    def make_home(self) -> Path:
        """The folder `home`, made if it is not there, which belongs to this database from now on.

        Raises InvalidSetting, also where it belongs to another.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as failure:
            expected = f"a folder that you can make and write to ({failure.strerror})"
            raise InvalidSetting("TG_HOME", str(self.home), expected) from failure
        if not os.access(self.home, os.W_OK | os.X_OK):
            raise InvalidSetting("TG_HOME", str(self.home), "a folder that you can write to")
        belong(self.home, Path(self.database_url.removeprefix(SQLITE)).absolute())
        return self.home


def _own_database(home: Path) -> str:
    """The database that a home belongs to; of a new one what the documents say."""
    known = database_of(home)
    return USUAL_DATABASE if known is None else f"{SQLITE}{known}"


def _database_url(url: str) -> str:
    """Only what is tested is served; and a URL may hold a password, so it is not repeated."""
    if not url.startswith(SQLITE) or url.removeprefix(SQLITE) in ("", ":memory:") or "?" in url:
        expected = "sqlite:/// and the path of a file, without a query"
        raise InvalidSetting("DATABASE_URL", url.partition(":")[0][:20] + ":…", expected)
    return url


def _rate_limits(text: str | None, environment: str) -> RateLimits:
    """As the documents have it: none in development, all of them in production."""
    match (text or "").strip().lower():
        case "":
            return "on" if environment == "production" else "off"
        case "on" | "off" | "relaxed" as chosen:
            return chosen
        case other:
            raise InvalidSetting("TG_RATE_LIMITS", other, "on, off or relaxed")


def _program(name: str, text: str) -> Path | None:
    """A program that can be run, at an address that does not depend on where the workbench was started."""
    path = Path(text).expanduser()
    if text and not (path.is_absolute() and path.is_file() and os.access(path, os.X_OK)):
        raise InvalidSetting(name, text, "the whole path of a program, or unset")
    return path if text else None


def _redis_url(url: str) -> str | None:
    """A URL may hold a password, so it is not repeated."""
    if url and not url.startswith(("redis://", "rediss://", "unix://")):
        raise InvalidSetting("REDIS_URL", "set", "redis://, rediss:// or unix:// and a place, or unset")
    return url or None


def _smtp(url: str, sender: str) -> dict[str, str]:
    """Where e-mail goes out, and from whom; the URL may hold a password, so it is not repeated."""
    if not url:
        return {}
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if (
        not fits
        or parts.path.strip("/")
        or parts.query
        or (parts.username is None) != (parts.password is None)
    ):
        raise InvalidSetting("TG_SMTP_URL", "set", "smtp(s)://user:password@host:port, or unset")
    if not _ADDRESS.fullmatch(sender):
        raise InvalidSetting("TG_SMTP_FROM", sender, "an e-mail address, because TG_SMTP_URL is set")
    return {"smtp_url": url, "smtp_from": sender}


def _triton_url(url: str) -> str | None:
    """A URL may hold a password, so it is not repeated."""
    if url and (not url.startswith(("http://", "https://")) or "?" in url or "#" in url):
        raise InvalidSetting("TG_TRITON_URL", "set", "http:// or https:// and a place, without a query")
    return url.rstrip("/") or None


def _networks(text: str) -> tuple[str, ...]:
    networks = tuple(part.strip() for part in text.split(",") if part.strip())
    for network in networks:
        try:
            _ = network == UNIX or ipaddress.ip_network(network)
        except ValueError:
            raise InvalidSetting(
                "TG_TRUSTED_PROXIES", network, "addresses and networks like 10.0.0.0/8, and unix"
            ) from None
    return networks


def _registration(text: str, environment: str) -> Registration:
    """Open only where nobody else can come by, unless somebody says so."""
    if not text:
        return "open" if environment == "development" else "invite"
    if text not in ("open", "invite", "closed"):
        raise InvalidSetting("TG_REGISTRATION", text, "open, invite or closed")
    return text  # type: ignore[return-value]  # narrowed by the membership test above


def _flag(values: Mapping[str, str], name: str, default: bool) -> bool:
    text = values.get(name, "").strip().lower()
    if text in ("", "true", "1", "yes", "on", "false", "0", "no", "off"):
        return default if not text else text in ("true", "1", "yes", "on")
    raise InvalidSetting(name, text, "true or false")


def _whole(values: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = values.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise InvalidSetting(name, text, f"a whole number from {least} to {most}")
    return int(text)


def _origins(text: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """Origins as browsers send them; the documents write `localhost:3000` without a scheme."""
    if text is None or not text.strip():
        return default
    origins = [part.strip().rstrip("/") for part in text.split(",") if part.strip()]
    return tuple(origin if "://" in origin or origin == "*" else f"http://{origin}" for origin in origins)
