"""The console in a real browser, on a real queue and database: what operators do with it, and what it looks like."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from graphnode.dev import outcomes
from graphnode.dev.child_processes import Service
from graphnode.dev.samples import Result
from tests.conftest import in_role
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.unit.console.asking import HOSTILE, TOKEN, VIEWER_TOKEN

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="the tests in a browser need chromium: apt-get install chromium")

#: Widths in pixels: a phone, a tablet, a desktop.
WIDTHS = (360, 800, 1500)

#: Milliseconds that a page may take to show what a test waits for.
PATIENCE_MS = PATIENCE_S * 1000

expect.set_options(timeout=PATIENCE_MS)

#: Starts a console on the test's stack; returns its address without the last slash.
StartConsole = Callable[..., str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def start_console(stack_env: dict[str, str]) -> Iterator[StartConsole]:
    with ExitStack() as running:

        def start(*options: str, **changed: str) -> str:
            environment = {
                **stack_env,
                "DATABASE_URL": in_role(stack_env["DATABASE_URL"], "graphnode_operator"),
                **changed,
            }
            command = [str(Path(sys.executable).with_name("graphnode")), "console", "--port", "0", *options]
            console = running.enter_context(Service("console", command, environment, ready="The console is at"))
            console.wait_until_ready()
            return found(re.search(r"at (http://\S+)/;", console.log.text()), "an address")[1]

        yield start


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page in a browser of its own, which must neither run foreign code nor report a fault."""
    faults: list[str] = []
    with ExitStack() as contexts:

        def open_at(address: str, **options: Any) -> Page:
            context = browser.new_context(timezone_id="Asia/Seoul", **options)
            contexts.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("dialog", lambda dialog: faults.append(f"dialog {dialog.message}"))
            page.on("pageerror", lambda error: faults.append(f"error {error}"))
            page.goto(address)
            return page

        yield open_at
    assert faults == []


def letters(ai: AiServer, count: int, *, with_documents: bool = False) -> list[Result]:
    """Dead letters of graphs whose documents were missing, one for each user."""
    made = [ai.result("graph", user_id=f"user-{number}") for number in range(count)]
    for result in made:
        if with_documents:
            ai.put_documents(result)
        ai.put_letter(result, reason="OBJECT_NOT_FOUND", error="s3://payloads/graph.json does not exist (yet)")
    return made


def redrive_all(page: Page) -> None:
    page.get_by_role("button", name="Redrive …").click()
    page.get_by_role("button", name=re.compile(r"Redrive \d+ letter")).click()


def test_woken_by_dead_letters_somebody_finds_the_reason_mends_it_redrives_all_and_sees_them_done(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page], worker: object
) -> None:
    results = letters(ai, 12)
    page = open_page(start_console())

    expect(page.get_by_text("12 dead letters of results")).to_be_visible()
    page.get_by_role("link", name="12", exact=True).click()
    expect(page.get_by_text("12 letters")).to_be_visible()
    page.locator("table.letters tbody a").first.click()
    expect(page.get_by_text("IS NOT THERE").first).to_be_visible()
    expect(page.get_by_text("The object never came")).to_be_visible()

    for result in results:
        ai.put_documents(result)
    page.reload()
    expect(page.get_by_text("is there:").first).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="Dead letters").click()
    page.get_by_role("button", name="Redrive …").click()
    expect(page.get_by_text("12 letters would be redriven.")).to_be_visible()
    page.get_by_label("Why").fill("S3 has the documents now")
    page.get_by_role("button", name="Redrive 12 letters").click()

    expect(page.get_by_text("12 redriven")).to_be_visible()
    expect(page.get_by_text("DONE")).to_be_visible()
    for result in results:
        assert ai.ended(result).status == "COMPLETED"
    page.get_by_role("navigation").get_by_role("link", name="Dead letters").click()
    expect(page.get_by_text("No dead letters.")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="Audit").click()
    expect(page.get_by_role("row", name=re.compile("redrive.*S3 has the documents now.*DONE"))).to_be_visible()


def test_two_operators_who_redrive_the_same_letters_at_once_redrive_each_once(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    letters(ai, 30)
    address = start_console()
    pages = [open_page(f"{address}/letters") for _ in range(2)]
    for page in pages:
        expect(page.get_by_text("30 letters")).to_be_visible()
        page.get_by_role("button", name="Redrive …").click()
    for page in pages:
        page.get_by_role("button", name="Redrive 30 letters").click()
    for page in pages:
        expect(page.get_by_text("DONE")).to_be_visible()

    assert len(outcomes.dead_letters(ai.sqs, ai.result_queue)) == 30
    assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []


def test_a_redrive_goes_on_in_a_closed_tab_and_can_be_stopped_from_another(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    letters(ai, 15)
    address = start_console()
    page = open_page(f"{address}/letters")
    page.get_by_role("button", name="Redrive …").click()
    page.get_by_label("At most so many a second").fill("1")
    page.get_by_role("button", name="Redrive 15 letters").click()
    expect(page.get_by_text("RUNNING")).to_be_visible()
    action = page.url
    page.close()

    ai.wait_until("SELECT 1 FROM audit WHERE outcome ~ ' [2-9] redriven'")
    other = open_page(action)
    other.get_by_role("button", name="Stop").click()
    expect(other.get_by_text("STOPPED")).to_be_visible()

    left = len(outcomes.dead_letters(ai.sqs, ai.dead_letter_queue))
    assert 0 < left < 14
    assert len(outcomes.dead_letters(ai.sqs, ai.result_queue)) == 15 - left


def test_chosen_letters_are_deleted_with_a_reason_and_the_others_stay(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    letters(ai, 3)
    page = open_page(f"{start_console()}/letters")
    page.get_by_label("Choose letter 2").check()
    expect(page.get_by_label("the chosen ones")).to_be_checked()
    page.get_by_role("button", name="Delete …").click()
    expect(page.get_by_text("1 letter would be deleted.")).to_be_visible()
    page.get_by_label("Why").fill("sent twice")
    page.get_by_role("button", name="Delete 1 letter").click()
    expect(page.get_by_text("1 deleted")).to_be_visible()

    assert len(outcomes.dead_letters(ai.sqs, ai.dead_letter_queue)) == 2
    ((because, deleted_by),) = ai.rows("SELECT because, deleted_by FROM deleted_letters")
    assert because == "sent twice"
    assert deleted_by.endswith("(console)")


def test_letters_are_downloaded_as_the_command_exports_them(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    results = letters(ai, 3)
    page = open_page(f"{start_console()}/letters")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()

    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 3
    assert all(any(result.task_id in line for line in lines) for result in results)


def hostile_stack(ai: AiServer) -> None:
    """Rows and letters with a hostile name wherever a user or the AI server may put one."""
    ai.put_letter(ai.result("graph", user_id=HOSTILE, task_id=f"task_{HOSTILE}"), reason="PERMANENT", error=HOSTILE)
    ai.sqs.send_message(QueueUrl=ai.dead_letter_queue, MessageBody=HOSTILE.replace("\x1b", ""))
    for status in ("COMPLETED", "FAILED", "PENDING"):
        ai.execute(
            "INSERT INTO tasks (task_id, task_type, user_id, status, error, warnings, s3_keys, finished_at)"
            " VALUES (%s, %s, %s, %s, %s, jsonb_build_object(%s, 1), jsonb_build_array(%s),"
            " CASE WHEN %s <> 'PENDING' THEN now() END)",
            f"{status}{HOSTILE}", HOSTILE, HOSTILE, status, HOSTILE, HOSTILE, HOSTILE, status,
        )  # fmt: skip
    ai.execute(
        "INSERT INTO task_attempts (task_id, task_type, user_id, attempt, reason, error, stack, given_up)"
        " VALUES (%s, %s, %s, 1, %s, %s, %s, true)",
        f"FAILED{HOSTILE}", HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE,
    )  # fmt: skip
    ai.execute("INSERT INTO graphs (user_id, status, node_count) VALUES (%s, 'CREATED', 1)", HOSTILE)
    ai.execute(
        "INSERT INTO graph_clusters (user_id, id, name, size, themes) VALUES (%s, %s, %s, 1, '[]')",
        HOSTILE, HOSTILE, HOSTILE,
    )  # fmt: skip
    ai.execute(
        "INSERT INTO graph_nodes (user_id, id, orig_id, title, cluster_id, keywords, metadata)"
        " VALUES (%s, 1, %s, %s, %s, jsonb_build_array(%s), '{}')",
        HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE,
    )  # fmt: skip
    ai.execute("INSERT INTO microscope_workspaces (id, user_id, name) VALUES (%s, %s, %s)", HOSTILE, HOSTILE, HOSTILE)
    ai.execute(
        "INSERT INTO microscope_documents (id, workspace_id, user_id, status, file_name, error)"
        " VALUES (%s, %s, %s, 'FAILED', %s, %s)",
        HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE,
    )  # fmt: skip
    ai.execute(
        "INSERT INTO notifications (id, user_id, type, payload, event, push_status, push_error)"
        " VALUES ('01J0000000000000000000000A', %s, %s, jsonb_build_object('taskId', %s::text, %s, 'x'),"
        " 'e', 'FAILED', %s)",
        HOSTILE, HOSTILE, f"FAILED{HOSTILE}", HOSTILE, HOSTILE,
    )  # fmt: skip
    ai.execute(
        "INSERT INTO workers (id, host, pid, version, threads, interval_s, started_at, seen_at, in_hand, running,"
        " outage_service, outage_since, outage_error, outage_advice, handled, retried, dead)"
        " VALUES ('w', %s, 1, %s, 8, 30, now(), now(), 0, 0, %s, now(), %s, %s, 0, 0, 0)",
        HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE,
    )  # fmt: skip
    ai.execute(
        "INSERT INTO audit (actor, via, action, subject, because, outcome) VALUES (%s, 'console', %s, %s, %s, %s)",
        HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE,
    )  # fmt: skip


def every_page(ai: AiServer, page: Page, address: str) -> list[str]:
    """The paths of all kinds of pages, with something on each."""
    from graphnode.console.rendering import link

    page.goto(f"{address}/letters")
    expect(page.locator("table.letters tbody tr").first).to_be_visible()
    ((action,),) = ai.rows("SELECT id FROM audit LIMIT 1")
    return [
        "/",
        "/letters",
        str(page.locator("table.letters tbody a").first.get_attribute("href")),
        str(page.locator("table.letters tbody a").last.get_attribute("href")),
        "/tasks",
        link("/task", id=f"FAILED{HOSTILE}"),
        link("/task", id=f"COMPLETED{HOSTILE}"),
        "/user",
        link("/user", id=HOSTILE),
        "/workers",
        "/audit",
        link("/action", id=action),
        "/nothing",
    ]


def test_hostile_names_in_every_field_are_text_and_every_page_is_accessible_and_fits(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    hostile_stack(ai)
    address = start_console()
    faults = []
    for scheme, width in [("light", WIDTHS[0]), ("dark", WIDTHS[1]), ("light", WIDTHS[2])]:
        page = open_page(address, color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
        for path in every_page(ai, page, address):
            page.goto(address + path)
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            where = f"{path} {scheme} {width}"
            assert page.locator("img, main script").count() == 0, where
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                faults.append(f"{where}: wider than the window")
            report = Axe().run(page).response
            assert report["passes"], where
            faults += [
                f"{where}: {one['id']} {[node['target'] for node in one['nodes']]}" for one in report["violations"]
            ]
    assert faults == []


def test_the_picture_of_a_hostile_graph_runs_nothing(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    from graphnode.console.rendering import link

    hostile_stack(ai)
    page = open_page(start_console() + link("/user/graph", id=HOSTILE))

    expect(page.locator("#picture")).to_be_visible()
    expect(page.locator("#list li").first).to_be_visible()


def test_a_viewer_looks_and_changes_nothing(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    letters(ai, 2)
    address = start_console(
        "--allow-changes", GRAPHNODE_CONSOLE_TOKEN=TOKEN, GRAPHNODE_CONSOLE_VIEWER_TOKEN=VIEWER_TOKEN
    )
    page = open_page(f"{address}/letters")
    page.get_by_label("Your name").fill("vera")
    page.get_by_label("Token").fill(VIEWER_TOKEN)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_text("2 letters")).to_be_visible()
    expect(page.get_by_text("vera")).to_be_visible()
    expect(page.get_by_role("button", name="Download")).to_be_visible()
    assert page.get_by_role("button", name="Redrive").count() == 0
    assert page.get_by_role("button", name="Delete").count() == 0
    page.goto(f"{address}/user?id=user-1")
    assert page.get_by_text("Forget this user").count() == 0


def test_who_loses_the_session_signs_in_again_and_is_where_they_were(
    start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    address = start_console(GRAPHNODE_CONSOLE_TOKEN=TOKEN)

    def sign_in() -> None:
        page.get_by_label("Your name").fill("ada")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()

    page = open_page(f"{address}/workers")
    sign_in()
    expect(page.get_by_role("heading", name="Workers")).to_be_visible()
    page.context.clear_cookies()
    # The next live update notices.
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    sign_in()
    expect(page.get_by_role("heading", name="Workers")).to_be_visible()
    assert page.url == f"{address}/workers"


def test_a_user_is_forgotten_only_if_their_name_is_typed_again(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    ai.execute("INSERT INTO graphs (user_id, status) VALUES ('ada', 'CREATED')")
    page = open_page(f"{start_console()}/user?id=ada")

    for typed, heading in (("adaa", "Not forgotten"), ("ada", "Forgotten")):
        page.get_by_text("Forget this user …").click()
        page.get_by_label("Type the user's ID").fill(typed)
        page.get_by_role("button", name="Forget this user").click()
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        if typed == "adaa":
            assert ai.rows("SELECT 1 FROM graphs") == [(1,)]
            page.go_back()

    assert ai.rows("SELECT 1 FROM graphs") == []
    ((entry,),) = ai.rows("SELECT audit::text FROM audit")
    assert "forget" in entry
    assert "ada" not in entry


@pytest.mark.parametrize(
    ("away", "said", "still"),
    [
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "The database is not seen", "results"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "not seen", "The last hour"),
    ],
    ids=["PostgreSQL", "SQS"],
)
def test_with_a_service_away_each_page_still_says_what_it_can(
    away: dict[str, str], said: str, still: str, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    address = start_console(**away)
    page = open_page(address)

    expect(page.get_by_text(said).first).to_be_visible()
    expect(page.get_by_text(still).first).to_be_visible()
    for path in ("/letters", "/tasks", "/user?id=ada", "/workers", "/audit"):
        answer = page.goto(address + path)
        assert answer
        assert answer.status in (200, 404, 503), path
        assert page.get_by_text("fault").count() == 0, path


def test_pages_can_be_read_without_javascript(
    ai: AiServer, start_console: StartConsole, open_page: Callable[..., Page]
) -> None:
    letters(ai, 1)
    address = start_console()
    page = open_page(f"{address}/letters", java_script_enabled=False)

    outcomes.wait_for(
        lambda: (page.reload() and page.get_by_text("1 letter").count() > 0) or None, timeout_s=PATIENCE_S
    )
    expect(page.locator("time").first).to_contain_text("UTC")
    page.locator("table.letters tbody a").first.click()
    expect(page.get_by_role("heading", name="OBJECT_NOT_FOUND")).to_be_visible()
