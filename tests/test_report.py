"""The report: one file that stands alone, says what the story says, and escapes what names hold."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import struct
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from conftest import integer_model
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from deltatrain import report
from deltatrain.comparison import Comparison, Difference
from deltatrain.errors import InputError
from deltatrain.quantize import TensorFormat
from deltatrain.rates import Rates
from deltatrain.report import svg, words
from deltatrain.report.confusion import n_wrong, top_confusions
from deltatrain.report.page import html
from deltatrain.report.palette import DARK, LIGHT
from deltatrain.story import FirmwareSize, Story
from deltatrain.training import Evaluation, Sample, Settings, Step
from deltatrain_core import StepResult

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NASTY = (
    "<script>alert(1)</script>",
    "a\"b'c",
    "$x_2$ & {{ y }}",
    "línea\nzwei\x00",
    "言葉",
    "</svg>",
    "e" * 60,
)


def make_story(
    n_steps: int = 50,
    class_names: tuple[str, ...] = DIGITS,
    errors: tuple[float, float] = (0.335, 0.15),
    epochs: int = 1,
    speaker: str = "theo",
    n_hidden: int = 64,
    difference: Difference | None = None,
    counted: bool = True,
) -> Story:
    """A story of synthetic numbers in the proportions of a real one."""
    rng = np.random.Generator(np.random.PCG64(7))
    model = integer_model(16, n_hidden, 64, class_names)
    n_classes, rows = len(class_names), 4 * n_hidden

    def evaluation(error: float) -> Evaluation:
        labels = np.arange(200) % n_classes
        predictions = labels.copy()
        wrong = rng.permutation(200)[: round(error * 200)]
        predictions[wrong] = (labels[wrong] + 1 + rng.integers(0, min(4, n_classes - 1), len(wrong))) % n_classes
        return Evaluation(tuple(labels.tolist()), tuple(predictions.tolist()), n_classes)

    steps, counts = [], []
    for number in range(n_steps):
        frames = int(rng.integers(28, 64))
        active_x, active_h = (
            int(frames * 16 * rng.uniform(0.25, 0.42)),
            int(frames * n_hidden * rng.uniform(0.03, 0.09)),
        )
        macs = rows * (active_x + active_h)
        label = number % n_classes
        right = rng.uniform() > 0.4 * np.exp(-number / 20)
        result = StepResult(
            loss=int(65536 * (rng.uniform(0.01, 0.5) if right else rng.uniform(0.8, 3.5))),
            predicted=label if right else (label + 1) % n_classes,
            n_steps=frames, active_x=active_x, active_h=active_h,
            macs_forward=macs, macs_backward=rows * active_h, macs_gradient=macs,
            columns_updated=70, clipped=int(rng.uniform() > 0.3), grad_exponent=-20, dm_exponent=3,
            bound_m=40000, bound_e=-14, n_targets=1, n_wrong=int(not right),
            saturated_h=0, saturated_c=0, saturated_grad=0,
            saturated_w=int(number == 3), underflow_dm=int(rng.integers(0, 90)), macs_recomputed=0,
        )  # fmt: skip
        steps.append(Step(Sample(np.zeros((frames, 16), np.int16), label, f"{label}_{speaker}_{number}"), result))
        counts.append(int(macs * 5.2 + 400_000))
    ram = {
        "weights": 43_020,
        "history": 40_960,
        "events": 11_264,
        "scratch": 5_120,
        "stack": 4_096,
        "link": 4_608,
    }
    return Story(
        data="fsdd",
        speaker=speaker,
        target="qemu:mps2-an386",
        board="ARM MPS2 with AN386 (emulated by QEMU)",
        model=model,
        formats=(
            TensorFormat("layer0.x", "Q4.11", 11, 4.83, 8.0, 1.4e-4, 0),
            TensorFormat("layer0.weight_ih", "Q1.14", 14, 0.98, 2.0, 1.8e-5, 0),
            TensorFormat("layer0.weight_hh", "Q1.14", 14, 0.87, 2.0, 1.8e-5, 0),
            TensorFormat("layer0.bias", "Q7.24", 24, 1.21, 128.0, 1.7e-8, 0),
            TensorFormat("layer0.c", "Q4.11", 11, 5.2, 16.0, 0.0, 0),
        ),
        settings=Settings.of(model, theta_x=0.3, theta_h=0.3, seed=1),
        per_class=5,
        epochs=epochs,
        before=evaluation(errors[0]),
        after=evaluation(errors[1]),
        known_before=0.0067,
        known_after=0.0933,
        float_after=0.145,
        comparison=Comparison(tuple(steps), 1_234_567, 0 if difference is None else 3, difference, 0.0031, 0.062),
        instructions=tuple(counts) if counted else (),
        size=FirmwareSize(61_440, sum(ram.values()), ram, 100_364),
        n_cut=12,
        n_saturated=4,
        rates=Rates(1.1e-5, 0.0, 0.0, 0.0, 9e-7, 8.3e-5),
        seconds={
            "data": 2.1,
            "pre-training": 41.7,
            "quantising": 0.9,
            "evaluating": 12.4,
            "training and comparing": 63.2,
        },
        pretrained_here=True,
    )


MAIN = make_story()
DIFFERENCE = Difference(
    7, "3_theo_12", "layer0.weight", (41, 190), {"device": -1203, "host C": -1202, "integer reference": -1202}
)
STORIES = {
    "ten classes": MAIN,
    "one step, two classes": make_story(1, ("yes", "no"), (0.5, 0.0), counted=False),
    "five passes": make_story(250, epochs=5),
    "35 classes": make_story(175, tuple(f"word {i}" for i in range(35))),
    "no errors": make_story(errors=(0.0, 0.0)),
    "odd names": make_story(class_names=NASTY, speaker='x"><img src=q onerror=1>\x07\ud800'),
    "differing": make_story(difference=DIFFERENCE),
    "nothing known": dataclasses.replace(MAIN, known_before=math.nan, known_after=math.nan, seconds={}),
}


class _Page(HTMLParser):
    """What a page consists of: tags with attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub("[ \n]+", " ", " ".join(self.texts))


@pytest.fixture(scope="module", params=list(STORIES))
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, str]:
    story = STORIES[request.param]
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    assert report.write(story, path) == path
    return story, path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def main_text() -> str:
    return html(MAIN)


def test_stands_alone(written: tuple[Story, str]) -> None:
    _, text = written
    page = _Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "img", "iframe", "object", "image"}
        for key in ("src", "href", "xlink:href", "srcset"):
            assert (attributes.get(key) or "#").startswith("#")
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert len(text.encode()) < 1_000_000


def test_ids_are_unique_and_found(written: tuple[Story, str]) -> None:
    page = _Page(written[1])
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {(a.get("xlink:href") or "#")[1:] for _, a in page.tags} | set(re.findall(r"url\(#([^)]*)\)", written[1]))
    assert wanted - {""} <= set(ids)


def test_figures_are_told_in_words_and_follow_the_colours(written: tuple[Story, str]) -> None:
    story, text = written
    figures = [a for tag, a in _Page(text).tags if tag == "svg" and "aria-hidden" not in a]
    assert len(figures) == (8 if story.instructions else 7)
    for figure in figures:
        assert figure["role"] == "img"
        assert len(figure["aria-label"] or "") > 20
    body = text[text.index("<body>") :]
    assert not set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", body)), "a colour of no scheme"
    assert text.count("<figcaption>") == len(figures)


def test_colours_of_both_schemes_have_the_same_names() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT), "a drawing's colour must name one variable"


def test_names_are_shown_not_obeyed(written: tuple[Story, str]) -> None:
    story, text = written
    page = _Page(text)
    shown = page.text
    assert words.plain(story.speaker) in shown
    for name in story.model.class_names:
        assert words.short(name) in shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)
    assert "onerror" not in {key for _, attributes in page.tags for key in attributes}


def test_says_what_the_story_says(main_text: str) -> None:
    page = _Page(main_text).text
    narrow = words.UNIT_SPACE
    for part in (
        f"theo’s error fell from 33.5{narrow}% to 15{narrow}% after training on 50 utterances",
        "Every one of 1,234,567 words that the device computed equals the host references.",
        f"speakers of the pre-training data rose from 0.7{narrow}% to 9.3{narrow}%",
        f"{MAIN.operations.reduction:.1f}× fewer",
        "67 of 200 utterances not recognised",
        "30 of 200 utterances not recognised",
        MAIN.model.hash().hex()[:12],
        "109,068",
        "61,440",
        "Q7.24",
        "1.7·10⁻⁸",
        "deltatrain demo --data fsdd --data-dir DIR --holdout theo --per-class 5 --epochs 1 --theta 0.3 --seed 1",
    ):
        assert part in page


def test_counters_are_sums_over_the_steps(main_text: str) -> None:
    page = _Page(main_text).text
    results = [step.result for step in MAIN.comparison.steps]
    underflows = [r.underflow_dm for r in results]
    n_steps = sum(u > 0 for u in underflows)
    assert f"rounded to 0 in {n_steps} of 50 steps; 8.3·10⁻⁵ of the values computed {sum(underflows):,} " in page
    assert "weights and biases at the end of their format in 1 of 50 steps; 9.0·10⁻⁷ of the values computed 1 " in page
    assert "clamped by the input format 1.1·10⁻⁵ of the training and test utterances" in page
    assert f"clip of 50 steps {sum(r.clipped for r in results)} " in page


def test_a_difference_is_named(main_text: str) -> None:
    page = _Page(html(STORIES["differing"]))
    assert "3 of 1,234,567 words that the device computed differ from the host references." in page.text
    assert "first at step 8 of 50 utterance 3_theo_12 word layer0.weight[41, 190] device -1203" in page.text
    assert any("red" in (a.get("class") or "").split() for _, a in page.tags)
    assert not any("red" in (a.get("class") or "").split() for _, a in _Page(main_text).tags)


def test_comparing_nothing_is_no_equality() -> None:
    empty = dataclasses.replace(MAIN, comparison=dataclasses.replace(MAIN.comparison, words_compared=0))
    page = _Page(html(empty))
    assert any("red" in (a.get("class") or "").split() for _, a in page.tags)
    assert "No word was compared" in page.text


def test_what_was_forgotten_is_said_as_it_is(main_text: str) -> None:
    assert "The price" in main_text
    assert "Nothing was forgotten" in html(dataclasses.replace(MAIN, known_before=0.1, known_after=0.1))
    unknown = html(STORIES["nothing known"])
    assert "The price" not in unknown
    assert "Nothing was forgotten" not in unknown


def test_same_story_same_bytes(tmp_path: Path, main_text: str) -> None:
    assert html(MAIN) == main_text
    first, second = (report.main_picture(MAIN, tmp_path / f"{n}.png").read_bytes() for n in (1, 2))
    assert first == second


@pytest.mark.parametrize("name", ["ten classes", "35 classes", "odd names", "differing"])
def test_main_picture(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "picture.png"
    assert report.main_picture(STORIES[name], path) == path
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1680, 672)


@pytest.mark.parametrize("name", ["ten classes", "odd names"])
def test_axes_of_the_main_picture_keep_apart(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names of its confusions' axes, however long those of classes are."""
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    report.main_picture(STORIES[name], tmp_path / "picture.png")
    (figure,) = drawn
    confusions = [ax for ax in figure.axes if ax.get_ylabel()]
    assert [(ax.get_ylabel(), ax.get_xlabel()) for ax in confusions] == [("spoken", "recognised as")] * 2
    with svg.style():
        boxes = [ax.get_tightbbox() for ax in figure.axes]
    for left, right in itertools.pairwise(boxes):
        assert left is not None and right is not None and left.x1 <= right.x0
    (badge,) = [artist for artist in figure.artists if isinstance(artist, FancyBboxPatch)]
    assert all(box is not None and badge.get_window_extent().y1 <= box.y0 for box in boxes)


def test_no_steps_and_no_folder_are_refused(tmp_path: Path) -> None:
    nothing = dataclasses.replace(MAIN, comparison=dataclasses.replace(MAIN.comparison, steps=()))
    (tmp_path / "file").write_text("")
    for call in (report.write, report.main_picture):
        with pytest.raises(InputError, match="no training steps"):
            call(nothing, tmp_path / "out")
        with pytest.raises(InputError, match="cannot write"):
            call(MAIN, tmp_path / "file" / "out")


def test_user_settings_of_matplotlib_do_not_matter(main_text: str) -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path"}):
        assert html(MAIN) == main_text


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: words.lines("en-gb-x-gbclan+m8"), "en-gb-x-gbclan+m8"),
        (lambda: words.lines("somebody with quite a long name"), "somebody with quite\na long name"),
        (lambda: words.lines("e" * 60), "e" * 20 + "\n" + "e" * 19 + "…"),
        (lambda: words.lines(""), ""),
        (lambda: words.percent(0.335), "33.5 %"),
        (lambda: words.percent(0.1), "10 %"),
        (lambda: words.percent(0.0002), "<0.1 %"),
        (lambda: words.percent(math.nan), "not measured"),
        (lambda: words.points(-0.005), "−0.5 points"),
        (lambda: words.compact(2_314_000), "2.31 M"),
        (lambda: words.compact(999), "999"),
        (lambda: words.size(109_068), "107 KiB"),
        (lambda: words.size(100), "100 B"),
        (lambda: words.duration(125), "2 min 05 s"),
        (lambda: words.small(1.8e-5), "1.8·10⁻⁵"),
        (lambda: words.change(0.1, 0.1), "stayed at 10 %"),
        (lambda: words.change(0.1, 0.2), "rose from 10 % to 20 %"),
    ],
)
def test_words(call: Callable[[], str], expected: str) -> None:
    assert call().replace(words.UNIT_SPACE, " ") == expected


def test_command_names_what_is_not_the_default() -> None:
    settings = Settings.of(MAIN.model, theta_x=0.3, theta_h=0.1, learning_rate=0.05, clip=1.5, seed=9)
    other = dataclasses.replace(
        MAIN, settings=settings, speaker="a b", data="my data", pretrained_here=False, target="qemu:other"
    )
    assert words.command(other) == (
        "deltatrain demo --data 'my data' --data-dir DIR --holdout 'a b' --model FILE --per-class 5 --epochs 1 "
        "--theta-x 0.3 --theta-h 0.1 --learning-rate 0.05 --clip 1.5 --seed 9 --target qemu:other"
    )
    digits = dataclasses.replace(MAIN, data="digits", pretrained_here=False)
    assert words.command(digits).startswith("deltatrain demo --data digits --holdout theo --per-class")


def test_confusions_in_words() -> None:
    evaluation = Evaluation((0, 0, 1, 1, 2), (0, 1, 0, 0, 2), 3)
    assert n_wrong(evaluation) == 3
    assert top_confusions(evaluation, ("a", "b", "c")) == "b as a (2), a as b (1)"
    assert top_confusions(Evaluation((0, 1), (0, 1), 2), ("a", "b")) == ""
