"""The kinds of learner that a project's settings choose from."""

from typing import Literal

CommitteeKind = Literal["linear", "ensemble", "dropout"]
DetectorKind = Literal["one-stage", "two-stage"]
