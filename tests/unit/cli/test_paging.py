"""Reading lists page by page."""

from __future__ import annotations

from mainspring.client.paging import gather


class Pages:
    """A list of numbers behind pages of at most `most`."""

    def __init__(self, total: int, most: int) -> None:
        self.total, self.most = total, most
        self.sizes: list[int] = []
        self.came = 0

    def read(self, size: int, token: str) -> tuple[int, str]:
        self.sizes.append(size)
        first = int(token or 0)
        last = min(first + min(size, self.most), self.total)
        self.came += last - first
        return last - first, str(last) if last < self.total else ""


def test_everything_is_read_without_a_limit() -> None:
    pages = Pages(total=2_500, most=1_000)
    assert gather(pages.read, None) == ""
    assert pages.came == 2_500


def test_a_limit_is_kept_and_the_rest_is_announced() -> None:
    pages = Pages(total=2_500, most=1_000)
    assert gather(pages.read, 1_200) == "1200"
    assert pages.sizes == [1_000, 200]


def test_short_pages_do_not_end_the_list() -> None:
    pages = Pages(total=10, most=3)
    assert gather(pages.read, 10) == ""
    assert pages.came == 10


def test_a_server_that_repeats_itself_does_not_hold_the_caller() -> None:
    assert gather(lambda _size, _token: (0, "same"), None) == ""
