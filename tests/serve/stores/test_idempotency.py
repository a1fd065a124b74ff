"""A request that is sent twice has one effect."""

from concurrent.futures import ThreadPoolExecutor


def test_the_same_key_and_body_give_the_same_answer_once(client, story):
    url = f"/v1/stories/{story['story_id']}/shots"
    body = {"prompt": "a bear walks", "num_chunks": 2}
    first, second = (
        client.post(url, json=body, headers={"Idempotency-Key": "k1"}) for _ in range(2)
    )
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    assert len(client.get(f"/v1/stories/{story['story_id']}/jobs").json()) == 1


def test_a_key_used_for_another_request_is_refused(client, story):
    url = f"/v1/stories/{story['story_id']}/shots"
    headers = {"Idempotency-Key": "k1"}
    client.post(url, json={"prompt": "a bear walks"}, headers=headers)
    answer = client.post(url, json={"prompt": "a cat walks"}, headers=headers)
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["detail"]


def test_many_at_once_make_one_job(client, story):
    url = f"/v1/stories/{story['story_id']}/shots"

    def post(_):
        body = {"prompt": "a bear walks"}
        return client.post(url, json=body, headers={"Idempotency-Key": "once"}).json()["job_id"]

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(post, range(24)))
    assert len(ids) == 1
    assert len(client.get(f"/v1/stories/{story['story_id']}/jobs").json()) == 1


def test_a_refused_request_does_not_use_up_its_key(client, story):
    url = f"/v1/stories/{story['story_id']}/shots"
    headers = {"Idempotency-Key": "k1"}
    body = {"prompt": "a bear", "references": [{"name": "hero"}]}
    assert client.post(url, json=body, headers=headers).status_code == 404
    assert client.post(url, json={"prompt": "a bear"}, headers=headers).status_code == 202


def test_a_reference_is_added_once(client, story, png):
    url = f"/v1/stories/{story['story_id']}/references"
    first, second = (
        client.post(
            url, files={"image": png}, data={"name": "hero"}, headers={"Idempotency-Key": "r"}
        )
        for _ in range(2)
    )
    assert first.json() == second.json()
    assert len(client.get(url).json()) == 1
