import numpy as np

from pipelines.curation.perception.crops import character_crop, head_and_shoulders


def face(x, y, width, height):
    return {"x": x, "y": y, "width": width, "height": height, "score": 0.9}


def test_a_crop_adds_hair_and_shoulders_to_a_face():
    box = head_and_shoulders(face(100, 50, 20, 30), width=400, height=300)
    assert box == (80, 32, 140, 128)
    picture = np.zeros((300, 400, 3), np.uint8)
    assert character_crop(picture, face(100, 50, 20, 30)).shape == (96, 60, 3)


def test_a_crop_stays_inside_the_keyframe():
    picture = np.zeros((40, 60, 3), np.uint8)
    assert character_crop(picture, face(0, 0, 60, 40)).shape == (40, 60, 3)
    assert character_crop(picture, face(59.6, 39.6, 0.4, 0.4)).size > 0
