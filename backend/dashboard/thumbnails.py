"""Small pictures of tasks."""

import io

from flask import Response, request
from PIL import Image

from backend.access import Refused
from backend.dashboard.blueprint import dashboard, deployment, find_project
from backend.labelstudio.media import MediaError, MediaUnavailable
from backend.store.tables import Task

SIDE = 320  # pixels of the longer side
KEPT_SECONDS = 24 * 3600  # by the browser: an image keeps its address only as long as it stays the same


@dashboard.get("/projects/<int:project_id>/tasks/<int:task_id>/thumbnail")
def thumbnail(project_id: int, task_id: int) -> Response:
    """The task's image, upright, as a small JPEG."""
    find_project(project_id)
    with deployment().database.read() as session:
        task = session.get(Task, (project_id, task_id))
    if task is None:
        raise Refused(f"Task {task_id} is not known here: it was deleted, or comes with the next round.", 404)
    try:
        image = deployment().media.image(task.source, task_id, at_least=SIDE)
    except MediaError as error:
        raise Refused(str(error), 404) from None
    except MediaUnavailable as error:
        raise Refused(str(error), 502) from None
    response = Response(_jpeg(image), mimetype="image/jpeg")
    response.headers["Cache-Control"] = f"private, max-age={KEPT_SECONDS}"
    response.add_etag()
    response.make_conditional(request)
    return response


def _jpeg(image: Image.Image) -> bytes:
    scale = SIDE / max(image.size)
    if scale < 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=80)
    return written.getvalue()
