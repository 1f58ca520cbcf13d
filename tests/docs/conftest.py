"""One cluster for all pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.clusters import Cluster, booted


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with booted(tmp_path_factory.mktemp("docs")) as shared:
        yield shared
