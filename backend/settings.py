"""Settings of a deployment (environment) and of one project's loop (labeling config, extra params, environment)."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.learners.kinds import CommitteeKind, DetectorKind
from backend.logs import LogFormat
from backend.store.storage import LOCAL_SCHEMES
from strategies import strategy as parse_strategy
from strategies.stopping import criterion as parse_criterion

ENV_FILE = ".env"
STORAGE_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}  # by the scheme of STORAGE_URL
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class InvalidSettings(ValueError):
    """A setting that cannot be used; the message names it, says where it was set and what is allowed."""


class Settings(BaseSettings):
    """What the operator sets once for a deployment. Each field is the environment variable of the same name."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, extra="ignore")

    label_studio_url: str = Field(
        "http://localhost:8080", description="Label Studio, as this backend reaches it"
    )
    label_studio_public_url: str = Field(
        "", description="Label Studio, as browsers reach it; empty: as this backend does"
    )
    label_studio_api_key: SecretStr = Field(
        SecretStr(""), description="Personal access token of a Label Studio user who may edit the projects"
    )
    backend_url: str = Field("http://localhost:9090", description="This backend, as Label Studio reaches it")
    basic_auth_user: str = Field("", description="User that Label Studio must send; empty: no authentication")
    basic_auth_pass: SecretStr = Field(SecretStr(""), description="Password that Label Studio must send")
    viewer_user: str = Field("", description="User who may look at the dashboard but change nothing")
    viewer_pass: SecretStr = Field(SecretStr(""), description="Password of that user")
    model_dir: Path = Field(
        Path("data"), description="Folder for the database, embeddings, models and caches"
    )
    storage_url: str = Field(
        "", description="Where embeddings and models are kept instead: a folder, s3://, gs:// or az://"
    )
    database_url: str = Field(
        "", repr=False, description="SQLAlchemy URL of the state; empty: SQLite in MODEL_DIR"
    )
    redis_url: str = Field("", repr=False, description="Redis for jobs; empty: SQLite in MODEL_DIR")
    ray_address: str = Field(
        "",
        description="Ray cluster for work on large pools: auto, local, host:port; empty: the worker does it",
    )
    media_hosts: str = Field("", description="Comma-separated private hosts that images may come from")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_format: LogFormat = Field("text", description="text, or json: an object a line")
    host: str = Field("0.0.0.0", description="Address that the server listens on")  # noqa: S104
    port: int = Field(9090, description="Port that the server listens on")

    @field_validator("storage_url")
    @classmethod
    def _usable_storage(cls, url: str) -> str:
        scheme = urlsplit(url).scheme
        if scheme in LOCAL_SCHEMES:
            return url
        if scheme not in STORAGE_PACKAGES:
            known = ", ".join(f"{name}://" for name in STORAGE_PACKAGES)
            raise ValueError(f"must be a folder or begin with file://, {known}, not with {scheme!r}")
        if find_spec(STORAGE_PACKAGES[scheme]) is None:
            raise ValueError(
                f"{scheme}:// needs the package {STORAGE_PACKAGES[scheme]}: "
                f"pip install 'label-studio-active-learning[{scheme}]'"
            )
        return url

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in LOG_LEVELS:
            raise ValueError(f"must be {', '.join(LOG_LEVELS[:-1])} or {LOG_LEVELS[-1]}, not {level!r}")
        return level.upper()

    @field_validator("viewer_pass")
    @classmethod
    def _beside_a_lead(cls, password: SecretStr, info: ValidationInfo) -> SecretStr:
        lead = info.data.get("basic_auth_user"), info.data.get("basic_auth_pass")
        if password.get_secret_value() and not (lead[0] and lead[1] and lead[1].get_secret_value()):
            raise ValueError(
                "needs BASIC_AUTH_USER and BASIC_AUTH_PASS: without them, whoever comes may change things"
            )
        return password

    @field_validator("label_studio_url", "backend_url", "label_studio_public_url")
    @classmethod
    def _without_trailing_slash(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError(f"must start with http:// or https://, not {url!r}")
        return url.rstrip("/")

    @property
    def label_studio_for_browsers(self) -> str:
        """Address of Label Studio for links on pages."""
        return self.label_studio_public_url or self.label_studio_url

    @property
    def basic_auth(self) -> tuple[str, str] | None:
        """User and password that protect the backend, or None where none are set."""
        password = self.basic_auth_pass.get_secret_value()
        return (self.basic_auth_user, password) if self.basic_auth_user and password else None

    @property
    def has_half_a_basic_auth(self) -> bool:
        """Whether only one of user and password is set: somebody thinks that they are asked for, and they are not."""
        return bool(self.basic_auth_user) != bool(self.basic_auth_pass.get_secret_value())

    @property
    def viewer_auth(self) -> tuple[str, str] | None:
        """User and password that may look but not change, or None where none are set."""
        password = self.viewer_pass.get_secret_value()
        return (self.viewer_user, password) if self.viewer_user and password else None

    @property
    def state_url(self) -> str:
        """SQLAlchemy URL of the state database."""
        return self.database_url or f"sqlite:///{self.model_dir.absolute() / 'state.db'}"

    @property
    def allowed_media_hosts(self) -> frozenset[str]:
        """Hosts from which images may be fetched although their addresses are private."""
        return frozenset(host.strip() for host in self.media_hosts.split(",") if host.strip())


ENVIRONMENT_PREFIX = "ACTIVE_LEARNING_"


def set_in_environment(name: str) -> str | None:
    """What the environment, or else .env, says of a setting of the loop; None: nothing."""
    variable = ENVIRONMENT_PREFIX + name.upper()
    return os.environ.get(variable) or dotenv_values(ENV_FILE).get(variable)


class LoopSettings(BaseModel):
    """How the loop of one project works."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    strategy: Any = Field(
        default="default",
        description="What to label next, once a learner can be trained",
    )
    cold_start_strategy: Any = Field(
        "max_herding", description="What to label next while there is no learner"
    )
    embedding: str = Field(
        "auto", description='"auto", a timm model name, "self-supervised", or several joined by "+"'
    )
    selection_embedding: str | None = Field(
        None, description="Embedding for the strategy alone, where it shall differ from the learner's"
    )
    learner: CommitteeKind = Field(
        "linear",
        description="Kind of committee: linear heads, an ensemble of small networks, or the dropout draws of one",
    )
    members: int = Field(8, ge=2, le=32, description="Learners in the committee")
    detector: DetectorKind = Field(
        "one-stage", description="Kind of object detector: FCOS, or with two-stage Faster R-CNN"
    )
    backbone: str = Field(
        "auto",
        description='Network beneath detectors and segmenters: "auto", a timm model name, or for detectors "coco"',
    )
    images_looked_at: int = Field(
        2_000,
        ge=1,
        description="Images of the pool, drawn at random, that a detector or segmenter looks at in a round",
    )
    minimum_labels: int = Field(
        8, ge=2, description="Labels before a learner is trained; audit tasks are not counted"
    )
    labels_per_round: int = Field(10, ge=1, description="New labels that start a round")
    round_after_seconds: float = Field(
        300, ge=1, description="A round also starts when a label has waited this long"
    )
    debounce_seconds: float = Field(1, ge=0, description="Pause that lets a burst of events become one round")
    window: int = Field(100, ge=1, le=10_000, description="Fewest tasks published ahead of the annotators")
    audit_share: float = Field(
        0.1, ge=0, le=0.5, description="Share of tasks drawn at random to measure the model"
    )
    preannotate: bool = Field(True, description="Show the prediction to the annotator")
    stopping: Any = Field(
        default={"any": ["every_image_labeled", "plateau"]},
        description="Recommend to stop when this criterion is met",
    )

    @field_validator("strategy", "cold_start_strategy")
    @classmethod
    def _known_strategy(cls, spec: Any) -> Any:
        parse_strategy(spec)
        return spec

    @field_validator("stopping")
    @classmethod
    def _known_criterion(cls, spec: Any) -> Any:
        parse_criterion(spec)
        return spec

    @classmethod
    def resolve(cls, config_attributes: Mapping[str, str], extra_params: Mapping[str, Any] | None) -> Self:
        """Merge the sources: labeling config over extra params over environment over defaults.

        Attributes of the labeling config that are not ours (other backends use ``model_*`` too) are ignored.

        Raises:
            InvalidSettings: a value is out of range, of the wrong type, or names something unknown.
        """
        names = cls.model_fields
        environment = {name: value for name in names if (value := set_in_environment(name))}
        merged: dict[str, Any] = dict(environment)
        merged.update(extra_params or {})
        merged.update({name: value for name, value in config_attributes.items() if name in names})
        try:
            return cls(**merged)
        except RecursionError:
            raise InvalidSettings("a setting is nested too deeply: write it flatter") from None
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            if first["type"] == "extra_forbidden":
                message = f"unknown setting {name!r}; known are: {', '.join(names)}"
            else:
                message = f"setting {name!r}: {first['msg'].removeprefix('Value error, ')}"
            raise InvalidSettings(message) from None
