"""Each lie, told once and seen by a plain client; and the ledger, which tells the truth all the while."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue_adapters.emulator import Options
from gemqueue_adapters.emulator.app import build
from gemqueue_adapters.emulator.service.lies import KINDS
from tests.emulator.plain import Plain, error_of, text_request, texts
from tests.emulator.test_faults import Dropped, batch, names
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

NOT_FOUND = {"error": {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}}
OWN_WORDS = "Requested entity was not found."


def told(emulator: EmulatorProcess, **lie: Any) -> None:
    """Tell this lie from now on."""
    emulator.lies([lie])


def done(plain: Plain, *rows: str) -> dict[str, Any]:
    """A batch that has ended."""
    return plain.ended(plain.create(texts(*rows or ("a", "b"))))


def download(plain: Plain, operation: dict[str, Any]) -> httpx.Response:
    """The reply with its result file."""
    return plain.http.get(f"/v1beta/{operation['response']['responsesFile']}:download?alt=media")


def page(plain: Plain, query: str = "") -> dict[str, Any]:
    """A page of the list of batches."""
    found: dict[str, Any] = plain.http.get(f"/v1beta/batches?pageSize=2{query}").raise_for_status().json()
    return found


def shown(found: dict[str, Any]) -> list[str]:
    """The display names in a page."""
    return [entry["metadata"]["displayName"] for entry in found.get("operations", [])]


def test_an_old_state_of_a_job(plain: Plain, emulator: EmulatorProcess) -> None:
    """Stale, a look shows what was told before the present state, from the create on, and to no other key."""
    emulator.faults([{"on": "job", "do": "pending", "seconds": 60}])
    name = plain.create(texts("a"))
    emulator.advance(61)
    plain.ended(name)
    told(emulator, route="get", kind="stale", times=1)
    with Plain(emulator.url, key="another-key").http as another:
        assert another.get(f"/v1beta/{name}").status_code == 404
    assert plain.get(name)["metadata"]["state"] != "BATCH_STATE_SUCCEEDED"
    assert plain.get(name)["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert emulator.lies_told() == [1]


def test_an_old_page_of_a_list(plain: Plain, emulator: EmulatorProcess) -> None:
    """Stale, a page lacks what was created since it was told; one that was never told before is empty."""
    plain.create(texts("a"), name="x")
    page(plain)
    plain.create(texts("a"), name="y")
    told(emulator, route="list", kind="stale")
    assert shown(page(plain)) == ["x"]
    assert page(plain, "&pageToken=MTAw") == {}


def test_an_older_file(plain: Plain, emulator: EmulatorProcess) -> None:
    """Stale, a file that has become ready is still being processed."""
    emulator.faults([{"on": "upload", "do": "processing", "seconds": 60}])
    file = plain.upload(texts("a"))
    emulator.advance(61)
    assert plain.get(file)["state"] == "ACTIVE"
    told(emulator, route="get_file", kind="stale")
    assert plain.get(file)["state"] == "PROCESSING"


@pytest.mark.parametrize("path", ["batches", "files", "models"])
def test_a_blank_page(plain: Plain, emulator: EmulatorProcess, path: str) -> None:
    """Blank, any route answers with an empty object."""
    plain.create(texts("a"))
    told(emulator, route="any", kind="blank")
    assert plain.http.get(f"/v1beta/{path}").json() == {}


def test_a_page_that_comes_again(plain: Plain, emulator: EmulatorProcess) -> None:
    """Repeated, the page before comes in the place of the next, with the same token; later the list goes on."""
    for name in "abc":
        plain.create(texts("a"), name=name)
    first = page(plain)
    told(emulator, route="list", kind="repeated", times=1)
    second = page(plain, f"&pageToken={first['nextPageToken']}")
    assert (shown(second), second["nextPageToken"]) == (["c", "b"], first["nextPageToken"])
    third = page(plain, f"&pageToken={second['nextPageToken']}")
    assert (shown(third), "nextPageToken" in third) == (["a"], False)


def test_a_last_page_with_a_token(plain: Plain, emulator: EmulatorProcess) -> None:
    """Repeated, a list that is whole goes on as if there were more."""
    plain.create(texts("a"), name="x")
    told(emulator, route="list", kind="repeated", times=1)
    first = page(plain)
    assert shown(first) == ["x"]
    assert page(plain, f"&pageToken={first['nextPageToken']}") == {}


def test_an_empty_page_with_a_token(plain: Plain, emulator: EmulatorProcess) -> None:
    """With empty_token a page holds a token alone, which leads to the page that was asked for."""
    for name in "abc":
        plain.create(texts("a"), name=name)
    token = page(plain)["nextPageToken"]
    for asked, expected in (("", ["c", "b"]), (f"&pageToken={token}", ["a"])):
        told(emulator, route="list", kind="empty_token", times=1)
        empty = page(plain, asked)
        assert list(empty) == ["nextPageToken"]
        assert shown(page(plain, f"&pageToken={empty['nextPageToken']}")) == expected


def test_a_page_that_could_not_reach_all(plain: Plain, emulator: EmulatorProcess) -> None:
    """Unreachable, a page says so and lacks the newer half."""
    for name in "ab":
        plain.create(texts("a"), name=name)
    told(emulator, route="list", kind="unreachable")
    found = page(plain)
    assert (shown(found), found["unreachable"] != []) == (["a"], True)


def test_an_error_with_200(plain: Plain, emulator: EmulatorProcess) -> None:
    """With error_page a success holds an error."""
    told(emulator, route="list", kind="error_page")
    reply = plain.http.get("/v1beta/batches")
    assert (reply.status_code, reply.json()["error"]["code"]) == (200, 503)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500, 502, 503])
def test_the_page_of_a_gateway(plain: Plain, emulator: EmulatorProcess, status: int) -> None:
    """With html a gateway answers in HTML with the status asked for, and with more lines than the batch has rows."""
    operation = done(plain)
    told(emulator, route="download", kind="html", status=status)
    reply = download(plain, operation)
    assert (reply.status_code, reply.headers["content-type"][:9]) == (status, "text/html")
    assert len(reply.text.splitlines()) > 300
    assert "content-disposition" not in reply.headers


def test_json_of_another_service(plain: Plain, emulator: EmulatorProcess) -> None:
    """Foreign, JSON of another service comes in its own envelope or in the API's own words, with any status."""
    told(emulator, route="get", kind="foreign")
    reply = plain.http.get("/v1beta/batches/" + "a" * 36)
    assert (reply.status_code, "error" in reply.json()) == (404, False)
    told(emulator, route="list", kind="foreign", how="own_words")
    assert plain.http.get("/v1beta/batches").json() == NOT_FOUND
    told(emulator, route="list", kind="foreign", how="own_words", status=401)
    assert plain.http.get("/v1beta/batches").status_code == 401


def test_a_denial_of_what_is_there(plain: Plain, emulator: EmulatorProcess) -> None:
    """Denied, the API's own 404 for a job and 403 for files; what is not there is answered as ever."""
    operation = done(plain)
    told(emulator, route="any", kind="denied")
    assert error_of(plain.http.get(f"/v1beta/{operation['name']}")) == (404, "NOT_FOUND", OWN_WORDS)
    assert error_of(download(plain, operation))[:2] == (403, "PERMISSION_DENIED")
    assert error_of(plain.http.get("/v1beta/batches/x"))[0] == 400
    told(emulator, route="download", kind="denied", status=404)
    assert error_of(download(plain, operation))[0] == 404


@pytest.mark.parametrize("how", ["RUNNING", "PENDING"])
def test_a_state_that_goes_back(plain: Plain, emulator: EmulatorProcess, how: str) -> None:
    """Back, an ended job runs or waits again, by name and in the list, with no trace of its end."""
    name = done(plain)["name"]
    emulator.lies([{"route": route, "kind": "back", "how": how} for route in ("get", "list")])
    for found in (plain.get(name), page(plain)["operations"][0]):
        assert found["metadata"]["state"] == f"BATCH_STATE_{how}"
        assert not {"done", "response", "error"} & set(found)
        assert not {"output", "endTime"} & set(found["metadata"])
    assert found["metadata"]["batchStats"] == {"requestCount": "2", "pendingRequestCount": "2"}


def test_a_success_without_an_output(plain: Plain, emulator: EmulatorProcess) -> None:
    """With no_output_yet a job has succeeded and names its results only when the window is over."""
    name = done(plain)["name"]
    told(emulator, route="get", kind="no_output_yet", for_s=10)
    found = plain.get(name)
    assert (found["metadata"]["state"], "response" in found) == ("BATCH_STATE_SUCCEEDED", False)
    assert "output" not in found["metadata"]
    emulator.advance(11)
    assert "response" in plain.get(name)


@pytest.mark.parametrize("how", ["line", "byte"])
def test_half_of_a_file(plain: Plain, emulator: EmulatorProcess, how: str) -> None:
    """Short, half of a file comes without a length, to the end of a line or to any byte, and ends well."""
    operation = done(plain, *[f"t{n}" for n in range(50)])
    whole = download(plain, operation).content
    told(emulator, route="download", kind="short", how=how)
    reply = download(plain, operation)
    assert "content-length" not in reply.headers
    assert whole.startswith(reply.content)
    assert len(whole) // 3 < len(reply.content) < len(whole)
    assert how == "byte" or reply.content.endswith(b"}\n")


@pytest.mark.parametrize("how", ["FAILED", "EXPIRED", "CANCELLED"])
def test_an_end_that_has_not_come(plain: Plain, emulator: EmulatorProcess, how: str) -> None:
    """Failed, a job that goes on has ended badly for a while; afterwards it succeeds, and is bought once."""
    emulator.faults([{"on": "job", "do": "pending", "seconds": 600}])
    name = plain.create(texts("a"))
    told(emulator, route="get", kind="failed", how=how, for_s=60)
    found = plain.get(name)
    assert (found["metadata"]["state"], found["done"]) == (f"BATCH_STATE_{how}", True)
    assert (found["error"]["message"] != "", "response" in found) == (True, False)
    emulator.advance(61)
    assert plain.get(name)["metadata"]["state"] == "BATCH_STATE_PENDING"
    emulator.advance(600)
    assert len(plain.results(name)) == 1
    assert emulator.ledger()["rows_bought"] == 1


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("zero", None),
        ("stale", {"requestCount": "2", "pendingRequestCount": "2"}),
        ("more", {"requestCount": "4", "successfulRequestCount": "4"}),
    ],
)
def test_counters_that_are_wrong(plain: Plain, emulator: EmulatorProcess, how: str, expected: Any) -> None:
    """With counters a job counts nothing, nothing yet, or twice what it has."""
    name = done(plain)["name"]
    told(emulator, route="get", kind="counters", how=how)
    assert plain.get(name)["metadata"].get("batchStats") == expected


@pytest.mark.parametrize(("kind", "state"), [("processing", "PROCESSING"), ("upload_failed", "FAILED")])
def test_an_upload_that_is_never_ready(plain: Plain, emulator: EmulatorProcess, kind: str, state: str) -> None:
    """With processing and upload_failed a file is not usable, by the upload's reply, by name and in the list."""
    told(emulator, route="any", kind=kind)
    url = plain.start(3)
    reply = plain.chunk(url, b"abc", 0)
    file = reply.json()["file"]
    assert (file["state"], reply.headers["x-goog-upload-status"]) == (state, "final")
    assert plain.get(file["name"])["state"] == state
    assert plain.http.get("/v1beta/files").json()["files"][0]["state"] == state
    emulator.advance(3600)
    assert plain.get(file["name"])["state"] == state


def test_replies_that_are_lost_for_minutes(plain: Plain, emulator: EmulatorProcess) -> None:
    """With reply_lost every request has its effect and no answer until the window is over."""
    body = batch(plain, "x")
    told(emulator, route="any", kind="reply_lost", for_s=120)
    for _ in range(2):
        with pytest.raises(Dropped):
            plain.post_batch(body)
    emulator.advance(121)
    assert names(plain) == ["x", "x"]


def test_a_call_whose_answer_is_lost_is_billed(plain: Plain, emulator: EmulatorProcess) -> None:
    """Of an interactive call that got through, the ledger knows, whatever its reply was; not of one that did not."""
    url = "/v1beta/models/gemini-3.8-flash:generateContent"
    told(emulator, route="generate", kind="html", effect=True)
    assert plain.http.post(url, json=text_request("a")).status_code == 502
    told(emulator, route="generate", kind="html")
    assert plain.http.post(url, json=text_request("a")).status_code == 502
    assert emulator.ledger()["interactive"]["calls"] == 1


@pytest.mark.parametrize(("effect", "left"), [(True, ["x"]), (False, [])])
def test_a_create_that_a_gateway_answers(
    plain: Plain, emulator: EmulatorProcess, effect: bool, left: list[str]
) -> None:
    """A reply in the place of the service's own comes before or after the effect, as is said."""
    body = batch(plain, "x")
    told(emulator, route="create", kind="html", effect=effect)
    assert plain.post_batch(body).status_code == 502
    emulator.lies([])
    assert names(plain) == left


def test_the_window_and_the_share(plain: Plain, emulator: EmulatorProcess) -> None:
    """A lie begins and ends by the virtual clock; its share is drawn by the seed, and drawn again alike."""
    told(emulator, route="list", kind="html", from_s=100, for_s=50)
    seen = [plain.http.get("/v1beta/batches").status_code]
    for seconds in (101, 60):
        emulator.advance(seconds)
        seen.append(plain.http.get("/v1beta/batches").status_code)
    assert seen == [200, 502, 200]
    rounds: list[list[int]] = []
    for _ in range(2):
        told(emulator, route="list", kind="html", share=0.5)
        rounds.append([plain.http.get("/v1beta/batches").status_code for _ in range(30)])
    assert rounds[0] == rounds[1]
    assert set(rounds[0]) == {200, 502}


def test_from_one_exchange_on(plain: Plain, emulator: EmulatorProcess) -> None:
    """With nth a lie begins with that exchange, and its time counts from there; with times it is told so often."""
    told(emulator, route="list", kind="html", nth=3, times=1)
    assert [plain.http.get("/v1beta/batches").status_code for _ in range(4)] == [200, 200, 502, 200]
    told(emulator, route="list", kind="html", nth=2, for_s=30)
    emulator.advance(60)
    assert [plain.http.get("/v1beta/batches").status_code for _ in range(3)] == [200, 502, 502]
    emulator.advance(31)
    assert plain.http.get("/v1beta/batches").status_code == 200


def test_a_lie_about_one_thing(plain: Plain, emulator: EmulatorProcess) -> None:
    """With match a lie is about one job, by name and in the list, and the log of requests says where it was told."""
    first, second = done(plain)["name"], done(plain)["name"]
    told(emulator, route="any", kind="back", match=first)
    states = [found["metadata"]["state"] for found in (plain.get(first), plain.get(second), *page(plain)["operations"])]
    assert states == [f"BATCH_STATE_{state}" for state in ("RUNNING", "SUCCEEDED", "SUCCEEDED", "RUNNING")]
    assert [request.get("lie") for request in emulator.requests()][-3:] == ["back", None, "back"]


def test_the_ledger_tells_the_truth(plain: Plain, emulator: EmulatorProcess) -> None:
    """Whatever is told on every route, the ledger knows which rows were bought, how often, and in which jobs."""
    first = done(plain, "a", "b")["name"]
    everywhere = [{"route": "any", "kind": kind, "share": 0.4} for kind in KINDS if kind != "blank"]
    body = batch(plain, "y")
    emulator.lies([*everywhere, {"route": "create", "kind": "blank"}])
    for _ in range(20):
        with suppress(*Dropped):
            plain.post_batch(body)
    ledger = emulator.ledger()
    ended = [job["name"] for job in ledger["jobs"]]
    assert ended[0] == first
    assert (ledger["rows_bought"], ledger["bought_twice"]) == (len(ended) + 1, ["k0"])
    assert ledger["bought_again"] == len(ended) - 1 > 0
    assert emulator.bought() == {"k0": ended, "k1": [first]}


def test_no_lie_outlives_a_reset(plain: Plain, emulator: EmulatorProcess) -> None:
    """A reset ends all lies, and what was told before it is not told again."""
    done(plain)
    told(emulator, route="list", kind="html")
    emulator.reset()
    assert emulator.get("lies") == []
    told(emulator, route="list", kind="stale")
    assert page(plain) == {}


def test_lies_from_the_command_line(tmp_path: Path) -> None:
    """Options set lies from the start; their window begins when the emulator does."""
    lies = ["route=list kind=html status=404 from_s=3600 for_s=60", "route=get kind=stale share=0.5"]
    with EmulatorProcess(tmp_path / "data", job_s=0, lie=lies) as process, Plain(process.url).http as http:
        assert http.get("/v1beta/batches").status_code == 200
        process.advance(3610)
        assert http.get("/v1beta/batches").status_code == 404
        assert [lie["kind"] for lie in process.get("lies")] == ["html", "stale"]


@pytest.mark.parametrize(
    "wrong",
    [
        "kind=html",
        "route=list",
        "route=list kind=untrue",
        "route=create kind=short",
        "route=list kind=back how=FAILED",
        "route=list kind=blank status=404",
        "route=list kind=html status=99",
        "route=list kind=html share=2",
        "route=list kind=html shares=1",
        "route=list kind=html for_s",
    ],
)
def test_lies_that_cannot_be_told(plain: Plain, emulator: EmulatorProcess, tmp_path: Path, wrong: str) -> None:
    """A lie with a typing error is refused with its words, at start and at run time, and the old ones stay."""
    with pytest.raises(ValueError, match=r"lie '(route|kind)="):
        build(Options(lies=(wrong,)), tmp_path)
    told(emulator, route="list", kind="html")
    fields: dict[str, Any] = dict(word.split("=") for word in wrong.split() if "=" in word)
    fields |= {name: float(value) for name, value in fields.items() if value.isdigit()}
    if wrong != "route=list kind=html for_s":
        assert error_of(plain.http.post("/_emulator/lies", json=[fields]))[0] == 400
    assert len(emulator.get("lies")) == 1


def test_a_table_without_gaps(emulator: EmulatorProcess) -> None:
    """Every kind can be set at each of its routes and in each of its variants."""
    every = [
        {"route": route, "kind": name, "how": how}
        for name, kind in KINDS.items()
        for route in (*kind.routes, "any")
        for how in kind.how
    ]
    emulator.lies(every)
    assert len(emulator.get("lies")) == len(every)
