"""The app over HTTP, on this machine alone: one page, a few JSON answers, pictures. Flask does the protocol."""

import contextlib
import io
import logging
import math
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np

import lensjax
from lensjax.core.errors import UserError
from lensjax.explore.gallery import DIGITS, SORTS, Gallery, Request
from lensjax.explore.grades import GRADES
from lensjax.surveys.catalogues import WRITERS

PAGE = pathlib.Path(__file__).with_name("page.html")
HOST = "127.0.0.1"
MOST = 500  # objects of one answer
TAIL = 60  # characters of the name of an upload that are kept, its suffix among them; any file system takes these


def explore(config: Any, workdir: str | pathlib.Path) -> None:
    """Serve the app of a workdir with embeddings until Ctrl-C; prints where. config.explore.port 0: any free one.

    UserError where the port is taken, or Flask is not installed.
    """
    gallery = Gallery(config, workdir)
    app = make_app(gallery)
    if gallery.grades.strays:
        print(
            f"{gallery.grades.path}: {gallery.grades.strays} grades are of objects that are not here", file=sys.stderr
        )
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each picture otherwise
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it would say so in two lines of its own, and exit
            server = make_server(HOST, config.explore.port, app, threaded=True)
    except (OSError, SystemExit):
        raise UserError(
            f"port {config.explore.port} of this machine is taken: choose another with --config.explore.port."
        ) from None
    print(f"http://{HOST}:{server.server_port} shows {workdir}; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


def make_app(gallery: Gallery) -> Any:
    """The Flask application of a gallery. UserError where Flask is not installed."""
    try:
        from flask import Flask, Response, jsonify, request, send_file
    except ModuleNotFoundError as error:
        raise UserError("the app needs the package flask: pip install 'lensjax[explore]'.") from error
    app = Flask(__name__, static_folder=None)

    @app.before_request
    def only_here() -> None:
        """No page of another site may use the app through a name of its own for this machine."""
        if request.host.partition(":")[0] not in (HOST, "localhost"):
            raise UserError(f"this app answers to {HOST} and localhost alone.")

    @app.errorhandler(UserError)
    def refuse(error: UserError) -> Any:
        return jsonify(error=str(error)), 400

    @app.errorhandler(OSError)  # of a workdir that is read-only, or a disk that is full
    def fail(error: OSError) -> Any:
        return jsonify(error=f"{gallery.workdir} cannot be used: {error.strerror or error}."), 500

    @app.get("/")
    def page() -> Any:
        return Response(PAGE.read_text(), mimetype="text/html")

    @app.get("/api/about")
    def about() -> Any:
        whole = {"objects": gallery.embeddings.rows, "workdir": str(gallery.workdir.resolve())}
        return jsonify(whole | {"sorts": _sorts(gallery), "grades": GRADES, "version": lensjax.__version__})

    @app.get("/api/objects")
    def objects() -> Any:
        given = request.args
        queries = tuple(filter(None, (query.strip() for query in given.get("queries", "").split(","))))
        asked = Request(given.get("sort", "object"), queries, _number(given, "window", 0.0), given.get("grade", ""))
        start, count = (int(_number(given, name, default)) for name, default in (("start", 0), ("count", 60)))
        return jsonify(gallery.page(asked, max(start, 0), min(max(count, 0), MOST)))

    @app.post("/api/grades")
    def grade() -> Any:
        given = request.get_json()
        if not isinstance(given, dict):
            raise UserError("expected an object and its grade.")
        gallery.grades.set(int(_number(given, "object", -1)), str(given.get("grade", "")))
        return jsonify(graded=int((gallery.grades.column() != "").sum()))

    @app.post("/api/teach")
    def teach() -> Any:
        request.get_json()  # as above: what no form of another site can send
        return jsonify(gallery.teach())

    @app.post("/api/upload")
    def upload() -> Any:
        file = request.files.get("image")
        if file is None or not file.filename:
            raise UserError("no image came with the request: choose a file.")
        with tempfile.TemporaryDirectory() as folder:
            name = file.filename.rpartition("/")[2].replace("\0", "")[-TAIL:]
            path = pathlib.Path(folder) / f"image-{name}"
            file.save(path)
            return jsonify(query=gallery.upload(path))

    @app.get("/picture/<name>.png")
    def picture(name: str) -> Any:
        png = gallery.picture(int(name) if name.isdecimal() and len(name) <= DIGITS else name)
        return Response(png, mimetype="image/png", headers={"Cache-Control": "no-store"})

    @app.get("/graded.<suffix>")
    def graded(suffix: str) -> Any:
        if suffix not in WRITERS:
            raise UserError(f"there is no format {suffix}: expected one of {', '.join(WRITERS)}.")
        path = next(path for path in gallery.export() if path.suffix == f".{suffix}")
        return send_file(path.resolve(), as_attachment=True)

    return app


def _sorts(gallery: Gallery) -> list[str]:
    """The orders of which there is something to sort by; similarity and taught always may come."""
    needed = {"score": "score", "magnitude": "mag_r"}
    there = {name: np.isfinite(gallery.columns.get(column, np.nan)).any() for name, column in needed.items()}
    return [name for name in SORTS if there.get(name, True)]


def _number(given: Any, name: str, default: float) -> float:
    """UserError for what is no finite number."""
    try:
        value = float(given.get(name, default))
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{name} is {given.get(name)!r}: expected a number.")
    return value
