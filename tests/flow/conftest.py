"""A tiny BERT for the tests of path integrals."""

from __future__ import annotations

from typing import Any

import pytest
from path_models import MODELS, build


@pytest.fixture(scope="module")
def bert() -> Any:
    return build(*MODELS["bert"])
