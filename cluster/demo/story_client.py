"""A client of a FilmWeaver server: requests a story over HTTP, as any client would."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from fw_model.errors import CapacityError, FilmWeaverError
from fw_model.generation.story_file import StoryFile

POLL_INTERVAL_S = 0.5
READY_POLL_S = 1.0


class ServerError(FilmWeaverError):
    """The server refused a request or failed a job; the message is the server's."""


class StoryClient:
    """A connection to one server."""

    def __init__(self, base_url: str, *, timeout_s: float = 60.0) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def wait_until_ready(self, deadline_s: float, is_alive: Callable[[], bool]) -> None:
        """Return once `/readyz` returns 200; CapacityError if the server exits or is too slow."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            if not is_alive():
                raise CapacityError("The server exited before it was ready; its log says why.")
            try:
                if self._http.get("/readyz").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass  # nothing listens yet
            time.sleep(READY_POLL_S)
        raise CapacityError(f"The server was not ready after {deadline_s:g} s; its log says why.")

    def make_story(
        self, story: StoryFile, *, base_dir: Path, on_progress: Callable[[int, str], None]
    ) -> str:
        """Generate every shot of `story` in order and return the story's id.

        `on_progress(num_done, words)` is called for every finished chunk.
        """
        request = {"title": story.title, "seed": story.seed}
        story_id = str(self._send("POST", "/v1/stories", json=request)["story_id"])
        before = 0
        for index, shot in enumerate(story.shots):
            references = [
                {
                    "reference_id": self.add_reference(
                        story_id, base_dir / spec.image, name=spec.name, weight=spec.weight
                    )
                }
                for spec in shot.references
            ]
            body = {"prompt": shot.prompt, "num_chunks": shot.num_chunks, "references": references}
            job = self._send("POST", f"/v1/stories/{story_id}/shots", json=body)
            before += self._follow(job, before, f"shot {index + 1}", on_progress)
            for extension in shot.extend:
                body = {"prompt": extension.prompt, "num_chunks": extension.num_chunks}
                job = self._send("POST", f"/v1/shots/{job['shot_id']}/extend", json=body)
                before += self._follow(job, before, f"shot {index + 1}, extended", on_progress)
        return story_id

    def add_reference(self, story_id: str, image: Path, *, name: str, weight: float) -> str:
        """Inject an image into the story's shot cache; return the reference's id."""
        response = self._send(
            "POST",
            f"/v1/stories/{story_id}/references",
            files={"image": (image.name, image.read_bytes())},
            data={"name": name, "weight": str(weight)},
        )
        return str(response["reference_id"])

    def story(self, story_id: str) -> dict[str, Any]:
        """Return the story with its shots."""
        return self._send("GET", f"/v1/stories/{story_id}")

    def memory(self, shot_id: str) -> dict[str, Any]:
        """Return which keyframes each segment of a shot retrieved, with scores."""
        return self._send("GET", f"/v1/shots/{shot_id}/memory")

    def download(self, url: str) -> bytes:
        """Return the bytes of a film or a picture that a response links to."""
        response = self._http.get(url, follow_redirects=True)
        self._check(response)
        return response.content

    def _follow(
        self, job: dict[str, Any], before: int, words: str, on_progress: Callable[[int, str], None]
    ) -> int:
        """Wait for a job to end; return how many chunks it generated."""
        while job["state"] not in ("done", "failed", "cancelled"):
            time.sleep(POLL_INTERVAL_S)
            job = self._send("GET", f"/v1/jobs/{job['job_id']}")
            on_progress(before + job["num_done"], words)
        if job["state"] != "done":
            raise ServerError(f"The job for {words} ended as {job['state']}: {job['error']}")
        return int(job["num_chunks"])

    def _send(self, method: str, url: str, **request: Any) -> dict[str, Any]:
        response = self._http.request(method, url, **request)
        self._check(response)
        content: dict[str, Any] = response.json()
        return content

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        is_problem = response.headers.get("content-type", "").startswith("application/problem+json")
        reason = response.json().get("detail") if is_problem else response.text[:200]
        raise ServerError(f"{response.request.method} {response.request.url.path}: {reason}")
