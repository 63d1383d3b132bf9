"""Lists that come in pages."""

from collections.abc import Callable

_MOST_PER_PAGE = 1000


def collect_pages(add_page: Callable[[int, str], str], left: Callable[[], int]) -> None:
    """Read pages until none is left or enough was read.

    add_page: reads a page of so many at most, by its token; returns the next one's token.
    left: how many are still wanted.
    """
    token = add_page(min(left(), _MOST_PER_PAGE), "")
    while token and left() > 0:
        token = add_page(min(left(), _MOST_PER_PAGE), token)
