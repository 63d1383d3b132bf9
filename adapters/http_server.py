"""A small HTTP server in a thread of this process."""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette


@contextmanager
def serving(app: Starlette, listen: str, **options: Any) -> Iterator[str]:
    """Serve, and log nothing of it; yields the base URL without slash.

    listen: "host:port"; port 0 takes a free one. Raises OSError where it is taken.
    options: further ones of uvicorn.Config.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        lifespan="off",
        server_header=False,
        **options,
    )
    host, _, port = listen.rpartition(":")
    with socket.create_server((host, int(port))) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True)
        thread.start()
        try:
            scheme = "https" if config.is_ssl else "http"
            yield "{}://{}:{}".format(scheme, *listener.getsockname()[:2])
        finally:
            server.should_exit = True
            thread.join()
