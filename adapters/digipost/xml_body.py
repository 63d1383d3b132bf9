"""XML bodies of Digipost's API, version 8: read with suspicion, written by hand.

Digipost's values are open sets (its own client lacks some that its schema has), so reading
checks only what is asked for, never the schema.
"""

import re
from typing import Any

from lxml import etree

MEDIA_TYPE = "application/vnd.digipost-v8+xml"
NAMESPACE = "http://api.digipost.no/schema/v8"


class MalformedBody(Exception):
    """A body is not XML as Digipost writes it: another root, or a document type."""


def parse(body: bytes, root: str) -> Any:
    """The root element of `body`; no entity is resolved and nothing is fetched.

    root: local name that the root element must have. Raises MalformedBody.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True
    )
    try:
        element = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        element = None
    # A document type is the only way to entities, and Digipost's bodies have none.
    if element is None or element.getroottree().docinfo.internalDTD is not None:
        raise MalformedBody
    if element.tag != f"{{{NAMESPACE}}}{root}":
        raise MalformedBody
    return element


def text(element: Any, name: str) -> str:
    """Text of the child `name`, without surrounding space; empty where there is none."""
    return str(element.findtext(f"{{{NAMESPACE}}}{name}") or "").strip()


def texts(element: Any, name: str) -> list[str]:
    """Text of each child `name`."""
    return [str(child.text or "").strip() for child in element.findall(f"{{{NAMESPACE}}}{name}")]


def compose(root: str, *children: tuple[str, str]) -> bytes:
    """A body of `root` with one text element per child; a slash in a name makes levels."""
    element = etree.Element(f"{{{NAMESPACE}}}{root}", nsmap={None: NAMESPACE})
    for path, value in children:
        parent = element
        for name in path.split("/"):
            parent = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
        parent.text = value
    return bytes(etree.tostring(element, xml_declaration=True, encoding="UTF-8"))


def safe_code(supplier_code: str) -> str:
    """The supplier's code as an outcome's error code; nothing personal can hide in it."""
    well_formed = re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", supplier_code)
    if well_formed and sum(character.isdigit() for character in supplier_code) < 6:
        return supplier_code
    return "UNKNOWN_ERROR_CODE"
