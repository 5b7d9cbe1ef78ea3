"""The failures that a person can mend, told in a sentence on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from backend.labelstudio.client import LabelStudioError
from backend.labelstudio.labeling_config import UnsupportedConfig
from backend.printable import printable_lines
from backend.settings import InvalidSettings
from backend.store.storage import StorageUnavailable


@contextmanager
def failures() -> Iterator[None]:
    """Turn the failures that a person can mend into a sentence and exit code 1."""
    try:
        yield
    except (LabelStudioError, UnsupportedConfig, InvalidSettings, StorageUnavailable) as error:
        fail(str(error))
    except ValidationError as error:
        first = error.errors()[0]
        fail(f"Environment variable {str(first['loc'][0]).upper()}: {first['msg']}")
    except SQLAlchemyError as error:
        fail(f"The database cannot be used: {type(error).__name__}. Check DATABASE_URL and MODEL_DIR.")
    except OSError as error:
        fail(
            f"{error.strerror or error}: {Path(error.filename) if error.filename else 'a file or an address'}"
        )


def fail(message: str) -> NoReturn:
    """Tell it and end with exit code 1."""
    Console(stderr=True).print(
        f"[red]Error:[/red] {escape(printable_lines(message))}", highlight=False, soft_wrap=True
    )
    raise typer.Exit(1)
