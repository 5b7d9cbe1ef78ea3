"""The files that people deploy by say what the code does; Docker itself does not run in the tests."""

import json
import re
from pathlib import Path

import yaml

from backend.cli import app
from backend.labelstudio.client import BATCHED_IMPORT
from backend.settings import LoopSettings, Settings
from strategies import strategy_names
from strategies.stopping import criterion_names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def table_names(text: str) -> set[str]:
    """The names in code quotes in the first column of the tables of a text."""
    rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def section(start: str, end: str) -> str:
    return README[README.index(start) : README.index(end)]


def test_the_readme_lists_every_setting_and_strategy() -> None:
    assert table_names(section("Of the **loop**", "Of the **deployment**")) == set(LoopSettings.model_fields)
    deployment = table_names(section("Of the **deployment**", "## Strategies"))
    assert deployment == {name.upper() for name in Settings.model_fields}
    assert table_names(section("## Strategies", "## When to stop")) == set(strategy_names())
    assert table_names(section("## When to stop", "## How it works")) | {"any", "all"} == set(
        criterion_names()
    )


def test_the_readme_tells_the_defaults() -> None:
    for model, text in (
        (LoopSettings, section("Of the **loop**", "Of the **deployment**")),
        (Settings, section("Of the **deployment**", "## Strategies")),
    ):
        for name, field in model.model_fields.items():
            row = re.search(rf"^\|[^|]*`({name}|{name.upper()})`[^|]*\|([^|]*)\|", text, re.MULTILINE)
            assert row is not None, name
            shown = row.group(2)
            default = field.default
            if (
                name.startswith(("basic_auth", "viewer"))
                or default in (None, "")
                or "Secret" in type(default).__name__
            ):
                assert "–" in shown or "SQLite" in shown, name
            elif isinstance(default, dict):
                assert str(default).replace("'", '"') in shown, name
            else:
                assert str(default).lower() in shown.lower(), name


def test_compose_sets_only_what_exists() -> None:
    names = {name.upper() for name in Settings.model_fields}
    for service in ("backend", "worker"):
        assert set(COMPOSE["services"][service]["environment"]) <= names
    label_studio = COMPOSE["services"]["label-studio"]["environment"]
    assert label_studio["ML_BLOCK_LOCAL_IP"] == label_studio["SSRF_PROTECTION_ENABLED"] == "false"
    assert label_studio["LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK"] == "true"  # because of the former
    assert {"LABEL_STUDIO_USERNAME", "LABEL_STUDIO_PASSWORD"} <= label_studio.keys()
    assert label_studio[BATCHED_IMPORT] == "true"
    assert COMPOSE["services"]["label-studio"]["image"].endswith(":1.23.2")


def test_every_compose_service_is_restarted_checked_and_persistent() -> None:
    volumes = set()
    for name, service in COMPOSE["services"].items():
        assert service["restart"] == "unless-stopped", name
        volumes |= {volume.partition(":")[0] for volume in service.get("volumes", [])}
        for other in service.get("depends_on", {}):
            assert "healthcheck" in COMPOSE["services"][other], f"{name} waits for {other} to be healthy"
    assert volumes == set(COMPOSE["volumes"])


def test_the_image_runs_commands_that_exist_as_another_user_than_root() -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert COMPOSE["services"]["worker"]["command"] == ["active-learning", "worker"]
    assert 'CMD ["active-learning", "serve"]' in DOCKERFILE
    assert {"serve", "worker", "connect", "disconnect", "status", "demo"} <= commands
    assert re.search(r"^USER (?!root)", DOCKERFILE, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for path in line.split():
            assert (ROOT / path).exists(), path
            assert f"!{path.partition('/')[0]}" in ignored, path


def test_the_image_and_make_take_the_dashboard_s_scripts_from_the_same_list() -> None:
    package = json.loads((ROOT / "backend/dashboard/package.json").read_text())
    assert "npm run vendor" in DOCKERFILE
    assert "npm run --silent vendor" in (ROOT / "Makefile").read_text()
    pages = [path.read_text() for path in (ROOT / "backend/dashboard").rglob("*.jinja")]
    for used in set(re.findall(r"vendor/([\w.-]+)", "".join(pages))):
        assert used in package["scripts"]["vendor"], used
