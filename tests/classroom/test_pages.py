"""Pages in HTML: whole, and safe whatever a student wrote."""

from __future__ import annotations

from html.parser import HTMLParser

from small_set import result

from lightning_rl.classroom.pages import CLASS, FEEDBACK, page

EVIL = "<img src=x onerror=alert(1)>"
EMPTY = {"meta", "br", "img", "link"}


class Nesting(HTMLParser):
    """Check that what is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def class_of(student: str, error: str = "") -> str:
    return page(
        CLASS, "The class", results=[result(student, error=error)], names=["q1"], maximum=3.0,
        mean=1.0, median=1.0, histogram="<svg></svg>", missed=[(("q1", EVIL), 1)], links={student},
        questions=[{"name": "q1", "mean": 1.0, "maximum": 3.0, "full": 0}],
    )  # fmt: skip


def test_every_tag_is_closed() -> None:
    for text in (page(FEEDBACK, "amy", result=result("amy"), hidden=True), class_of("amy")):
        nesting = Nesting(text)
        assert nesting.open == []
        assert {"html", "head", "body", "h1"} <= set(nesting.seen)


def test_what_a_student_wrote_is_text() -> None:
    texts = [
        page(FEEDBACK, EVIL, result=result(EVIL, message=EVIL, error=EVIL), hidden=True),
        class_of(EVIL, EVIL),
    ]
    for text in texts:
        assert "img" not in Nesting(text).seen
        assert "&lt;img" in text


def test_a_drawing_is_put_in_as_it_is_and_nothing_else_may_run() -> None:
    text = class_of("amy")
    assert "svg" in Nesting(text).seen
    assert "default-src &#39;none&#39;" in text
    assert "script" not in Nesting(text).seen


def test_an_id_in_a_link_leaves_no_folder() -> None:
    assert 'href="feedback/a%40b.html"' in class_of("a@b")
