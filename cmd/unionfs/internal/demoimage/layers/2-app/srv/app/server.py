#!/usr/bin/env python3
"""Serves the folder static/ on the port that etc/app/app.conf names."""

import configparser
import functools
import http.server
import pathlib

here = pathlib.Path(__file__).resolve().parent
root = here.parent.parent
config = configparser.ConfigParser()
config.read(root / "etc/app/app.conf")
port = config.getint("server", "port", fallback=8080)
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=here / "static")
http.server.ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()
