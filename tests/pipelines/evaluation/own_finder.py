"""A character finder from outside the project, as a user would write one."""

from fw_model.evaluation.judges.characters import Sightings


class EverywhereFinder:
    """Sees every character all over the frame."""

    version = "everywhere-1"

    def __init__(self, context):
        self.context = context

    def find(self, frame, names):
        return Sightings(dict.fromkeys(names, (0.0, 0.0, 1.0, 1.0)))
