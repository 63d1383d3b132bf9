"""What came was not what the contract promises."""


class Surprise(Exception):
    """The register did something else. Its texts hold no identity number and no address."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected = expected
        self.came = came


def expect(what: str, expected: object, came: object) -> None:
    """Raises Surprise where the two differ.

    what: of whom or of what both are said.
    expected, came: nothing personal; both are shown.
    """
    if expected != came:
        raise Surprise(f"{what}: {expected}", str(came))
